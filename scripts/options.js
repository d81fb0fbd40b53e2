// Writes docs/options.md from the option tables in src, and comments with accepted values and defaults into the
// published types. An option's text is the comment above it; the rest comes from its shape.
//
// node scripts/options.js          writes docs/options.md
// node scripts/options.js --types  comments dist/**/*.d.ts; part of `npm run build`
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { parse } from '@babel/parser'

const root = fileURLToPath(new URL('..', import.meta.url))

/** Each section of the page: its title, the file with the table, and the table's name. */
export const tables = [
  // One line per plugin, sorted by title.
  ['agentCheck', 'src/instance/agent-check.ts', 'agentCheckOptions'],
  ['balancer', 'src/edge/balancer/options.ts', 'balancerOptions'],
  ['broadcast', 'src/state/broadcast/index.ts', 'broadcastOptions'],
  ['cache', 'src/state/cache/options.ts', 'cacheOptions'],
  ['cache.getOrSet', 'src/state/cache/options.ts', 'loadOptions'],
  ['config.cache', 'src/state/http-cache/options.ts', 'routeCacheOptions'],
  ['config.idempotency', 'src/state/idempotency/options.ts', 'routeOptions'],
  ['config.rateLimit', 'src/state/rate-limit/route-options.ts', 'routeLimitOptions'],
  ['config.session', 'src/state/session/options.ts', 'routeSessionOptions'],
  ['dashboard', 'src/dashboard/index.ts', 'dashboardOptions'],
  ['database', 'src/database/database.ts', 'databaseOptions'],
  ['errorResponses', 'src/instance/error-responses.ts', 'errorResponsesOptions'],
  ['fleet', 'src/fleet.ts', 'fleetOptions'],
  ['geo', 'src/geo/index.ts', 'geoOptions'],
  ['geo.regions.NAME', 'src/geo/regions.ts', 'regionOptions'],
  ['headers', 'src/instance/headers.ts', 'headersOptions'],
  ['health', 'src/instance/health/options.ts', 'healthOptions'],
  ['idempotency', 'src/state/idempotency/options.ts', 'idempotencyOptions'],
  ['identity', 'src/instance/identity.ts', 'identityOptions'],
  ['jwt', 'src/state/jwt/index.ts', 'jwtOptions'],
  ['jwt.keys', 'src/state/jwt/keys.ts', 'jwtKeyOptions'],
  ['lifecycle', 'src/instance/lifecycle/index.ts', 'lifecycleOptions'],
  ['loadBalancer', 'src/instance/admin-api.ts', 'loadBalancerOptions'],
  ['locks', 'src/state/locks/index.ts', 'locksOptions'],
  ['metrics', 'src/instance/metrics/index.ts', 'metricsOptions'],
  ['operators', 'src/instance/operators/index.ts', 'operatorsOptions'],
  ['overload', 'src/instance/overload/index.ts', 'overloadOptions'],
  ['pools', 'src/database/pools.ts', 'poolsOptions'],
  ['proxy', 'src/edge/http/options.ts', 'proxyOptions'],
  ['proxy.pools.NAME', 'src/edge/http/pool-options.ts', 'poolOptions'],
  ['proxy.routes', 'src/edge/http/routes.ts', 'routeOptions'],
  ['proxyPlugin', 'src/edge/plugin/options.ts', 'proxyPluginOptions'],
  ['rateLimit', 'src/state/rate-limit/index.ts', 'rateLimitOptions'],
  ['redis', 'src/state/redis/index.ts', 'redisOptions'],
  ['registry', 'src/state/registry/index.ts', 'registryOptions'],
  ['replicas', 'src/database/replicas.ts', 'replicasOptions'],
  ['session', 'src/state/session/options.ts', 'sessionOptions'],
  ['target', 'src/edge/balancer/target.ts', 'targetOptions'],
  ['tcpProxy', 'src/edge/tcp/index.ts', 'tcpProxyOptions'],
]

/** The syntax tree of each file that was read. */
const programs = new Map()
function programOf(file) {
  let program = programs.get(file)
  if (!program) {
    program = parse(readFileSync(file, 'utf8'), { sourceType: 'module', plugins: ['typescript'] }).program
    programs.set(file, program)
  }
  return program
}

/** Comments of a table by option, e.g. `cookie.name`. Spread and nested tables are followed into the file they are in. */
function commentsOf(file, table) {
  const program = programOf(file)
  const declarations = program.body.map((node) => node.declaration ?? node)
  for (const { type, declarations: variables = [] } of declarations) {
    if (type !== 'VariableDeclaration') continue
    const found = variables.find(({ id }) => id.name === table)
    if (found) return commentsIn(file, found.init, '')
  }
  for (const { type, source, specifiers } of program.body) {
    if (type !== 'ImportDeclaration' || !source.value.startsWith('.')) continue
    const found = specifiers.find(({ local }) => local.name === table)
    if (found) return commentsOf(join(dirname(file), source.value), found.imported.name)
  }
  return new Map()
}

function commentsIn(file, node, prefix) {
  const comments = new Map()
  const add = (more) => {
    for (const [name, comment] of more) if (!comments.has(name)) comments.set(name, comment)
  }
  if (node.type === 'Identifier') add(prefixed(prefix, commentsOf(file, node.name)))
  else if (node.type === 'TSAsExpression' || node.type === 'TSSatisfiesExpression')
    add(commentsIn(file, node.expression, prefix))
  else if (node.type === 'MemberExpression') add(commentsIn(file, node.object, prefix))
  else if (node.type === 'CallExpression')
    for (const part of [node.callee, ...node.arguments]) add(commentsIn(file, part, prefix))
  else if (node.type === 'ObjectExpression')
    for (const property of node.properties) {
      if (property.type === 'SpreadElement') add(commentsIn(file, property.argument, prefix))
      if (property.type !== 'ObjectProperty') continue
      const name = `${prefix}${property.key.name ?? property.key.value}`
      const comment = property.leadingComments?.findLast(({ value }) => value.startsWith('*'))
      if (comment) comments.set(name, textOf(comment.value))
      add(commentsIn(file, property.value, `${name}.`))
    }
  return comments
}

const prefixed = (prefix, comments) => [...comments].map(([name, comment]) => [prefix + name, comment])

/** The text of a JSDoc comment in one line, and its `@default` tag. */
function textOf(comment) {
  const line = comment
    .replace(/^\s*\*+/gm, '')
    .replace(/\s+/g, ' ')
    .trim()
  const [text, fallback] = line.split('@default ')
  return { text: text.trim(), fallback: fallback?.trim() }
}

/** Options of a table and of its nested tables, in their order. */
function optionsOf(shapes, comments, prefix = '') {
  return Object.entries(shapes).flatMap(([key, shape]) => {
    const name = prefix + key
    const { text, fallback } = comments.get(name) ?? {}
    const option = { name, text, accepts: shape.expects, fallback: defaultOf(shape, fallback) }
    return [option, ...(shape.members ? optionsOf(shape.members, comments, `${name}.`) : [])]
  })
}

function defaultOf({ fallback, variable, members }, described) {
  const value = described ?? (fallback === undefined || (members && isEmpty(fallback)) ? undefined : shown(fallback))
  return variable ? [`\`${variable}\``, value].filter(Boolean).join(', else ') : value
}

const isEmpty = (value) => Object.keys(value).length === 0
const shown = (value) =>
  typeof value === 'number' ? value.toLocaleString('en') : `\`${JSON.stringify(value).replaceAll('"', "'")}\``

/** Numbers of more than four digits with separators. */
const readable = (text) => text.replace(/\d{5,}/g, (digits) => Number(digits).toLocaleString('en'))
const cell = (text) => text.replaceAll('|', '\\|').replace(/\{@link (\S+)\}/g, '`$1`')

async function optionsIn([, file, table]) {
  const module = await import(pathToFileURL(join(root, file)).href)
  return optionsOf(module[table], commentsOf(join(root, file), table))
}

/** One table in Markdown, by its title. */
export async function optionTable(title) {
  const entry = tables.find(([name]) => name === title)
  if (!entry) throw new Error(`no options ${title}`)
  const rows = (await optionsIn(entry)).map(
    ({ name, text, accepts, fallback }) =>
      `| \`${name}\` | ${cell(readable(accepts))} | ${cell(fallback ?? '–')} | ${cell(text ?? '')} |`,
  )
  return `| option | accepts | default | meaning |\n|---|---|---|---|\n${rows.join('\n')}`
}

/** The text of docs/options.md. */
export async function page() {
  const sections = []
  for (const [title] of tables) sections.push(`## ${title}\n\n${await optionTable(title)}`)
  return `# Options

Options of every plugin. Each is set under its plugin's name in the options of \`fleet\`, or in the options of the plugin
itself. The strongest wins: code, then the environment, then the default. An unknown option and a value that is not accepted end
the boot with an error that names both. \`config.NAME\` is for one route: \`app.get('/', { config: { NAME: … } }, handler)\`. There the error
also names the route.

<!-- Written by scripts/options.js from src. -->

${sections.join('\n\n')}
`
}

/** Comments for the members of a table's type and of the object options in it, and the part of the file that each replaces. */
function typeComments(members, options, prefix = '') {
  return members.flatMap(({ key, start, leadingComments, typeAnnotation }) => {
    const name = prefix + (key.name ?? key.value)
    const option = options.get(name)
    if (!option) return []
    const { text, accepts, fallback } = option
    const comment = `/** ${text} Accepts ${readable(accepts)}.${fallback ? ` @default ${fallback}` : ''} */\n${'    '.repeat(prefix.split('.').length)}`
    // A comment that TypeScript kept is replaced; tables that are spread into this one, and nested ones, lose theirs.
    const old = leadingComments?.findLast(({ value }) => value.startsWith('*'))
    const nested = objectTypes(typeAnnotation).flatMap((type) => typeComments(type.members, options, `${name}.`))
    return [{ start: old?.start ?? start, end: start, comment }, ...nested]
  })
}

/** The type literals in `OptionsOf<{ … }>` below a node. */
function objectTypes(node) {
  if (typeof node !== 'object' || node === null) return []
  if (node.type !== 'TSTypeReference' || node.typeName.name !== 'OptionsOf')
    return Object.values(node).flatMap(objectTypes)
  return (node.typeArguments ?? node.typeParameters).params.filter(({ type }) => type === 'TSTypeLiteral')
}

/** Comments each option in the published types. */
async function commentTypes() {
  for (const entry of tables) {
    const file = join(root, entry[1].replace(/^src/, 'dist').replace(/\.ts$/, '.d.ts'))
    const options = new Map((await optionsIn(entry)).map((option) => [option.name, option]))
    let source = readFileSync(file, 'utf8')
    const ast = parse(source, { sourceType: 'module', plugins: [['typescript', { dts: true }]] })
    const variables = ast.program.body.flatMap((node) => (node.declaration ?? node).declarations ?? [])
    const members = variables.find(({ id }) => id.name === entry[2])?.id.typeAnnotation.typeAnnotation.members ?? []
    if (members.length === 0) throw new Error(`${relative(root, file)} has no table ${entry[2]}`)
    const comments = typeComments(members, options).sort((a, b) => b.start - a.start)
    for (const { end, start, comment } of comments) source = `${source.slice(0, start)}${comment}${source.slice(end)}`
    writeFileSync(file, source)
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  if (process.argv.includes('--types')) await commentTypes()
  else writeFileSync(join(root, 'docs/options.md'), await page())
}
