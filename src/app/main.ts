import { FleetError, readEnv } from '../index.ts'
import { build } from './build.ts'

// The entry point for `npm start`, the containers and pm2.
try {
  const { HOST = '0.0.0.0', PORT = 3000 } = readEnv()
  const app = await build()
  await app.listen({ host: HOST, port: PORT })
} catch (error) {
  // Report a configuration error in one line, without a stack.
  console.error(error instanceof FleetError ? `${error.code} ${error.message}` : error)
  process.exit(1)
}
