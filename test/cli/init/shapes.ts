import { type Files, manifest } from './projects.ts'

/** A project, and what `fleet init` makes of it. */
export interface Shape {
  readonly files: Files
  /** The folder of the app. */
  readonly folder?: string
  readonly args?: readonly string[]
  /** The program that serves after it; absent: it needs a build. */
  readonly run?: string
  /** Lines in the files afterwards. */
  readonly has: Readonly<Record<string, readonly string[]>>
  readonly joined?: readonly RegExp[]
  readonly notes?: readonly RegExp[]
}

const esm = `import Fastify from 'fastify'

const app = Fastify({ logger: true })

app.get('/', async () => ({ hello: 'world' }))
await app.listen({ port: 3000 })
`

/** The app of fastify-cli's generator, without autoload. */
const plugin = `'use strict'

const options = {}

module.exports = async function (fastify, opts) {
  if (opts.all) fastify.register(require('@fastify/autoload'), { dir: require('node:path').join(__dirname, 'plugins') })
  fastify.get('/', async () => 'hello')
}

module.exports.options = options
`

export const shapes: Readonly<Record<string, Shape>> = {
  'ES modules': {
    files: { 'package.json': manifest({ type: 'module', main: 'app.js' }), 'app.js': esm },
    run: 'app.js',
    has: {
      'app.js': [
        "import { fleet, serverOptions } from 'fastify-fleet'",
        'const app = Fastify({ ...serverOptions(), logger: true })',
        "await app.register(fleet, { name: 'shop' })",
        "await app.listen({ port: Number(process.env.PORT ?? 3000), host: process.env.HOST ?? 'localhost' })",
      ],
      'package.json': ['    "fleet": "fleet up app.js",', '    "start": "node app.js"'],
      '.env.example': ['# SESSION_SECRET='],
    },
  },
  'CommonJS, one statement, no options': {
    files: {
      'package.json': manifest({ scripts: { start: 'NODE_ENV=production node --enable-source-maps ./server.js' } }),
      'server.js':
        "'use strict'\nconst fleet = 1\nconst server = require('fastify')();\nserver.get('/', (req, reply) => reply.send({ fleet }))\n\nserver.listen({ port: process.env.PORT || 3000, host: '0.0.0.0' }, (error) => {\n  if (error) throw error\n})\n",
    },
    run: 'server.js',
    has: {
      'server.js': [
        "const { fleet: fastifyFleet, serverOptions } = require('fastify-fleet');",
        "const server = require('fastify')(serverOptions());",
        "server.register(fastifyFleet, { name: 'shop' });",
        "server.listen({ port: process.env.PORT || 3000, host: '0.0.0.0' }, (error) => {",
      ],
    },
  },
  'TypeScript that Node runs': {
    files: {
      'package.json': manifest({ type: 'module', scripts: { dev: 'node --watch src/main.ts' } }),
      'src/main.ts': `import { fastify, type FastifyInstance } from 'fastify'

interface Größe { name: '日本' }
const port: number = 4000
export const app: FastifyInstance = fastify({
  // quiet
  logger: false,
} as const).withTypeProvider<any>() as FastifyInstance // 😀
app.get<{ Reply: Größe }>('/', async () => ({ name: '日本' }) as Größe)
await app.listen({ port, host: 'localhost' })
`,
    },
    run: 'src/main.ts',
    has: {
      'src/main.ts': [
        "import { fleet, serverOptions } from 'fastify-fleet'",
        '  ...serverOptions(),',
        "await app.register(fleet, { name: 'shop' })",
        'const port: number = Number(process.env.PORT ?? 4000)',
        "await app.listen({ port, host: process.env.HOST ?? 'localhost' })",
      ],
      'package.json': ['    "fleet": "fleet up src/main.ts",'],
    },
  },
  'TypeScript that is compiled to CommonJS': {
    files: {
      'package.json': manifest({ scripts: { build: 'tsc', start: 'node dist/server.js' } }),
      'src/server.ts': `import Fastify from "fastify";
import { routes } from "./routes";

const app = Fastify();
app.register(routes);
void app.listen({ port: 3000 });
`,
      'src/routes.ts': 'export async function routes() {}\n',
    },
    has: {
      'src/server.ts': [
        'import { fleet, serverOptions } from "fastify-fleet";',
        'const app = Fastify(serverOptions());',
        'app.register(fleet, { name: "shop" });',
        'void app.listen({ port: Number(process.env.PORT ?? 3000), host: process.env.HOST ?? "localhost" });',
      ],
      'package.json': ['    "fleet": "npm run build && fleet up dist/server.js"'],
    },
  },
  'TypeScript with HTTP/2': {
    files: {
      'package.json': manifest({ type: 'module' }),
      'server.ts': `import Fastify from 'fastify'
const app = Fastify({ http2: true })
await app.listen({ port: 3000 })
`,
    },
    has: {
      'server.ts': ["import { fleet } from 'fastify-fleet'", 'const app = Fastify({ http2: true })'],
    },
    notes: [/server\.ts: `serverOptions\(\)` is not added/],
  },
  'fastify-cli, a plugin': {
    files: {
      'package.json': manifest({
        scripts: { start: 'fastify start -l info app.js', dev: 'fastify start -w -P app.js' },
      }),
      'app.js': plugin,
      'plugins/cookies.js': "module.exports = require('@fastify/cookie')\n",
    },
    run: 'server.js',
    joined: [/^@fastify\/cookie is used/],
    has: {
      'app.js': plugin.split('\n'),
      'server.js': ["const plugin = require('./app.js')", "app.register(fleet, { name: 'shop' })"],
      'package.json': ['    "fleet": "fleet up server.js"'],
    },
    notes: [/`fastify start` still runs app\.js alone/],
  },
  'a factory of apps': {
    files: {
      'package.json': manifest({ type: 'module', scripts: { start: 'node server.js' } }),
      'server.js':
        'import { buildApp } from "./src/app.js";\n\nconst app = await buildApp({ logger: true });\nawait app.listen({ port: 3000, host: "127.0.0.1" });\n',
      'src/app.js': `import Fastify from "fastify";
export async function buildApp(options = {}) {
  const app = Fastify(options); // one for each test
  app.get("/", async () => "hello");
  return app;
}
`,
    },
    run: 'server.js',
    has: {
      'src/app.js': [
        'import { fleet, serverOptions } from "fastify-fleet";',
        '  const app = Fastify({ ...serverOptions(), ...options }); // one for each test',
        '  await app.register(fleet, { name: "shop" });',
      ],
      'server.js': [
        'await app.listen({ port: Number(process.env.PORT ?? 3000), host: process.env.HOST ?? "127.0.0.1" });',
      ],
    },
  },
  'plugins, decorators, signals and a logger of its own': {
    files: {
      'package.json': manifest(),
      'app.js': `const Fastify = require('fastify')
const app = Fastify({ loggerInstance: { info() {}, error() {}, debug() {}, fatal() {}, warn() {}, trace() {}, child() { return this } } })
app.register(require('@fastify/helmet'))
app.register(require('@fastify/cookie'))
app.register(require('@fastify/session'), { secret: 'x'.repeat(32) })
app.decorate('cache', new Map())
app.get('/health', async () => 'fine')
process.on('SIGTERM', () => app.close())
app.listen({ port: 3000 })
`,
    },
    run: 'app.js',
    has: { 'app.js': ["app.register(fleet, { name: 'shop', cache: false })"] },
    joined: [/^@fastify\/helmet is used/, /^@fastify\/session is used/, /^route \/health \(app\.js:7\)/],
    notes: [/new FleetStore/, /app\.js:6: `app\.cache`/, /app\.js:8: the listener of SIGTERM/],
  },
  'a folder of a monorepo, with CRLF and tabs': {
    files: {
      'package.json': '{ "private": true, "workspaces": ["packages/*"] }\n',
      'packages/api/package.json': manifest({ name: '@acme/Shop_api' }).replaceAll('  ', '\t').replaceAll('\n', '\r\n'),
      'packages/api/index.mjs': esm.replaceAll('\n', '\r\n'),
    },
    folder: 'packages/api',
    run: 'index.mjs',
    has: {
      'index.mjs': ["await app.register(fleet, { name: 'shop-api' })\r"],
      'package.json': ['\t\t"fleet": "fleet up index.mjs",\r'],
    },
  },
}
