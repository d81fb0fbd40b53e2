// Arguments: `hello`, `shed` or `proxy`; a shortcut of src/base/internals to disable, or `none`; upstreams of the proxy.
import Fastify from 'fastify'
import { fleet } from 'fastify-fleet'
import { createProxy } from 'fastify-fleet/http-proxy'
import { hello, listening, port } from './hello.js'

const [kind, disabled, ...targets] = process.argv.slice(2)
const { shortcuts } = await import(new URL('base/internals/shortcuts.js', import.meta.resolve('fastify-fleet')))
if (disabled !== 'none') shortcuts[disabled] = false

if (kind === 'proxy') {
  await createProxy({ targets }).listen({ port })
} else {
  const app = Fastify()
  await app.register(fleet, { rateLimit: false })
  app.get('/', async () => hello)
  await app.listen({ port, host: '127.0.0.1' })
  // Sheds every request, in the way in which a saturated process sheds some.
  if (kind === 'shed') Object.assign(app.overload, { admit: () => false, decide: (_admit, shed) => shed() })
}
listening()
