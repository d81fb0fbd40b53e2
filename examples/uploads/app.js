import { createHash } from 'node:crypto'
import { createWriteStream } from 'node:fs'
import { mkdir, rename, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { Transform } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'

// Instances share a folder or a bucket; a file on the disk of one instance would be missing on the others.
const folder = process.env.UPLOADS ?? 'uploads'
await mkdir(folder, { recursive: true })

const app = Fastify({ ...serverOptions(), bodyLimit: 100 * 1024 ** 2 })
// A repeated upload with the same key gets the first response and is stored once.
await app.register(fleet, { name: 'uploads' })
app.addContentTypeParser('application/octet-stream', (_request, payload, done) => done(null, payload))

app.put('/files/:name', async (request, reply) => {
  const { name } = request.params
  if (!/^[\w-]{1,100}$/.test(name)) return reply.code(400).send({ message: 'a name has letters, digits, - and _' })
  const sum = createHash('sha256')
  let bytes = 0
  const count = new Transform({
    transform(chunk, _encoding, done) {
      sum.update(chunk)
      bytes += chunk.length
      done(null, chunk)
    },
  })
  const part = join(folder, `.${name}-${request.id}`)
  try {
    await pipeline(request.body, count, createWriteStream(part))
    // No reader sees half a file.
    await rename(part, join(folder, name))
  } catch (error) {
    await rm(part, { force: true })
    throw error
  }
  return { name, bytes, sha256: sum.digest('hex') }
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
