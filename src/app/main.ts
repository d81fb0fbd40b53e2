import { FleetError, readEnv } from '../index.ts'
import { build } from './build.ts'

// What `npm start`, the containers and pm2 run.
try {
  const { HOST = '0.0.0.0', PORT = 3000 } = readEnv()
  const app = await build()
  await app.listen({ host: HOST, port: PORT })
} catch (error) {
  // A mistake in the configuration is told in one line; a stack would only hide it.
  console.error(error instanceof FleetError ? `${error.code} ${error.message}` : error)
  process.exit(1)
}
