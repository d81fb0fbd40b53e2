// As the READMEs of close-with-grace and pm2 say.
import closeWithGrace from 'close-with-grace'
import { port } from './shop.js'
import { create } from './shop-session.js'

const app = await create()
closeWithGrace(async () => {
  await app.close()
})
await app.listen({ port, host: '127.0.0.1' })
process.send('ready')
