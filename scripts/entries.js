// Part of `npm run build`: each entry point in dist checks the version of Node.js before it loads anything else.
import { readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

for (const { default: entry } of Object.values(exports)) {
  if (entry === undefined) continue
  const file = join(root, entry)
  const check = relative(dirname(file), join(root, 'dist/base/node-version.js')).replaceAll('\\', '/')
  writeFileSync(file, `import '${check.startsWith('.') ? check : `./${check}`}'\n${readFileSync(file, 'utf8')}`)
}
