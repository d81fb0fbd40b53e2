// Copies packages and their dependencies from node_modules to a folder, for the image:
//   node scripts/image-modules.js FOLDER PACKAGE…
// The versions are those of the lock file, because the packages are copied, not installed. `npm ci --omit=dev` does not
// help: the reference application's packages are devDependencies, and @prisma/client has the Prisma CLI as a peer.
import { cpSync, existsSync, readFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { pathToFileURL } from 'node:url'

const manifest = (folder) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))

/** As Node resolves it: in the package's own node_modules, then in those of parent folders. */
function find(name, from) {
  for (let folder = from; ; folder = dirname(folder)) {
    const found = join(folder, 'node_modules', name)
    if (existsSync(join(found, 'package.json'))) return found
    if (folder === '.') return undefined
  }
}

/** The folders of packages and their dependencies, in node_modules of the working directory. */
export function modulesOf(names) {
  const found = new Set()
  const follow = (name, from, optional = false) => {
    const folder = find(name, from)
    if (folder === undefined && !optional) throw new Error(`${name}, required by ${from}, is not in node_modules`)
    if (folder === undefined || found.has(folder)) return
    found.add(folder)
    const {
      dependencies = {},
      optionalDependencies = {},
      peerDependencies = {},
      peerDependenciesMeta = {},
    } = manifest(folder)
    for (const each of Object.keys(dependencies)) follow(each, folder, each in optionalDependencies)
    // An optional peer is used only if it is installed anyway.
    for (const each of Object.keys(peerDependencies)) if (!peerDependenciesMeta[each]?.optional) follow(each, folder)
  }
  for (const name of names) follow(name, '.')
  return found
}

/** Prisma ships its runtime for every database and platform, 72 MB; one of each is loaded. */
const prismaRuntime = /^(?:client|query_compiler_fast_bg\.postgresql)\./
/** Node never loads these. */
const unused =
  /\.(?:map|md|markdown|[cm]?ts|tsbuildinfo)$|^(?:\.github|\.vscode|tests?|__tests__|benchmarks?|example|examples)$/

const wanted = (path) => {
  if (/@prisma\/client\/runtime$/.test(dirname(path))) return prismaRuntime.test(basename(path)) && !unused.test(path)
  return !unused.test(basename(path)) && basename(path) !== 'node_modules'
}

function copyAll(to, named) {
  const found = modulesOf([...Object.keys(manifest('.').dependencies), ...named])
  for (const folder of found) {
    cpSync(folder, join(to, folder.replace(/^node_modules\//, '')), {
      recursive: true,
      filter: (path) => path === folder || wanted(path),
    })
  }
  console.log(`${found.size} packages`)
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const [to, ...named] = process.argv.slice(2)
  if (to === undefined) throw new Error('usage: image-modules.js FOLDER PACKAGE…')
  copyAll(to, named)
}
