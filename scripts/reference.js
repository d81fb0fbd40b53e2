// Writes what is generated in docs/reference from src, so that the pages and the code cannot differ:
//
//   openapi.json   the HTTP API, from the schemas of the routes
//   cli.md         the verbs of `fleet`, from the same declarations as `--help`
//   other pages    the parts between two markers, `<!-- KIND: NAME... -->` and `<!-- end -->`:
//     options      tables of docs/options.md
//     errors       codes, from the table of errors
//     metrics      rows of docs/observability.md
//     environment  rows of docs/environment.md
//     routes       of openapi.json
//     cost         rows of docs/compatibility.md, which `npm run bench -- plugins --save` measures
//
// node scripts/reference.js
import { generateKeyPairSync } from 'node:crypto'
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import swagger from '@fastify/swagger'
import Fastify from 'fastify'
import { errorCodes, FleetError } from '../src/base/errors.ts'
import { helpOf } from '../src/cli/help.ts'
import { verbs } from '../src/cli/verbs.ts'
import fleet from '../src/index.ts'
import { optionTable } from './options.js'

const docs = fileURLToPath(new URL('../docs', import.meta.url))
const read = (page) => readFileSync(join(docs, page), 'utf8')

/** The files in docs/reference as they should be. */
export async function reference() {
  const api = await openApi()
  generated.routes = () => routes(api)
  const files = new Map([
    ['openapi.json', `${JSON.stringify(api, null, 2)}\n`],
    ['cli.md', await cli()],
  ])
  for (const page of readdirSync(join(docs, 'reference')))
    if (page.endsWith('.md') && page !== 'cli.md') files.set(page, await fill(read(`reference/${page}`), page))
  return files
}

/** A page with its generated parts. */
export async function fill(text, page) {
  const parts = text.split(
    /(^<!-- (?:options|errors|metrics|environment|cost|routes): .*? -->$[\s\S]*?^<!-- end -->$)/m,
  )
  for (const [index, part] of parts.entries()) {
    const [marker, kind, names] = /^<!-- (\w+): (.*?) -->$/m.exec(part) ?? []
    if (index % 2 === 1) parts[index] = `${marker}\n\n${await generated[kind](names.split(' '), page)}\n\n<!-- end -->`
  }
  return parts.join('')
}

const generated = {
  options: async (names) => {
    const tables = await Promise.all(names.map(optionTable))
    // Several tables need a title each.
    return names.map((name, index) => (names.length > 1 ? `### ${name}\n\n` : '') + tables[index]).join('\n\n')
  },
  errors: (codes, page) => {
    const rows = codes.map((code) => {
      if (!errorCodes.includes(code)) throw new Error(`${page}: no error ${code}`)
      const { statusCode, message } = new FleetError(code)
      return `| [\`${code}\`](../errors.md#${code.toLowerCase()}) | ${statusCode} | ${message} |`
    })
    return ['| code | status | message |', '|---|--:|---|', ...rows].join('\n')
  },
  metrics: (names, page) => rowsOf('observability.md', names, page, '| metric | type | labels | meaning |'),
  environment: (names, page) => rowsOf('environment.md', names, page, '| variable | default | meaning |'),
  cost: (names, page) =>
    rowsOf('compatibility.md', names, page, '| | CPU µs/request | boot ms | idle MiB | memory MiB |', 'bare Fastify'),
}

/** The rows of a table that have one of these names in code in their first cell, below a header of the same columns. */
function rowsOf(page, names, of, header, first) {
  const rows = read(page)
    .split('\n')
    .filter((line) => line.startsWith('| '))
  const found = names.flatMap((name) => {
    const its = rows.filter((row) => row.split('|')[1].includes(`\`${name}\``))
    if (its.length === 0) throw new Error(`${of}: docs/${page} has no row for ${name}`)
    return its
  })
  const lead = first === undefined ? [] : rows.filter((row) => row.startsWith(`| ${first} |`))
  const linked = [...new Set([...lead, ...found])].map((row) => row.replace(/\]\((?=[a-z-]+\.md)/g, '](../'))
  return [header, `|${'---|'.repeat(header.split('|').length - 2)}`, ...linked].join('\n')
}

async function cli() {
  const sections = await Promise.all(
    Object.entries(verbs).map(async ([name, load]) => {
      const { default: command } = await load()
      return `## fleet ${name}\n\n\`\`\`text\n${helpOf(command)}\n\`\`\``
    }),
  )
  return `# The fleet command

\`npx fleet VERB [options]\`. Exit codes: 0 success, 1 failure, 2 the command line or the configuration is invalid, or the target
is unreachable. Every verb prints JSON with \`--json\`; an error is then \`{"error":{"code":…,"message":…}}\`. The code is one of
[these](../errors.md), or \`null\` for a defect. A mistyped verb or option gets a suggestion.

\`fleet completion bash\`, \`zsh\` and \`fish\` print completions of verbs, options, values and files. After
\`npm install --global fastify-fleet\`, \`man fleet\` and \`man fleet-VERB\` show the same as this page.

\`fleet logs\` reads the logs of \`fleet up\`. In production, instances write lines of JSON to stdout, and what runs them keeps these:
\`journalctl -u NAME\`, \`docker compose logs\`, \`pm2 logs\` or \`kubectl logs\`.

<!-- Written by scripts/reference.js from src/cli. -->

${sections.join('\n\n')}
`
}

async function openApi() {
  const app = Fastify()
  const { version, license } = JSON.parse(readFileSync(join(docs, '../package.json'), 'utf8'))
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'fastify-fleet',
        version,
        license: { name: license, identifier: license },
        description:
          'Routes that fastify-fleet adds to an app. Probes are public. Routes for operators respond 404 to other clients.',
      },
      servers: [{ url: '/' }],
      components: {
        securitySchemes: {
          operator: { type: 'http', scheme: 'bearer', description: 'FLEET_ADMIN_TOKEN; see docs/operators.md' },
        },
      },
    },
    transform: ({ schema, url, route }) => ({
      schema: {
        ...schema,
        hide: false,
        ...(route.config?.audience === 'operators' && { security: [{ operator: [] }] }),
      },
      url,
    }),
    transformObject: ({ openapiObject }) => described(openapiObject),
  })
  // The public keys of asymmetric ones have a route; the keys are not in the document.
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const keys = [{ kid: 'example', privateKey: privateKey.export({ type: 'pkcs8', format: 'pem' }) }]
  await app.register(fleet, { lifecycle: { signals: false }, jwt: { keys } })
  await app.ready()
  const document = app.swagger()
  await app.close()
  return document
}

function routes({ paths }) {
  const rows = Object.entries(paths).flatMap(([path, operations]) =>
    Object.entries(operations).map(
      ([method, { summary, security }]) =>
        `| \`${method.toUpperCase()} ${path}\` | ${summary} | ${security ? 'operators' : 'everyone'} |`,
    ),
  )
  return ['| route | purpose | for |', '|---|---|---|', ...rows].join('\n')
}

/** With a description of each response. */
function described(document) {
  for (const operations of Object.values(document.paths))
    for (const operation of Object.values(operations)) {
      operation.operationId = undefined
      for (const [status, response] of Object.entries(operation.responses)) {
        response.description = status === '503' ? 'No, or not now' : 'Success'
      }
      if (operation.security) operation.responses['404'] = { description: 'The client is not an operator' }
    }
  return document
}

if (process.argv[1] === fileURLToPath(import.meta.url))
  for (const [file, text] of await reference()) writeFileSync(join(docs, 'reference', file), text)
