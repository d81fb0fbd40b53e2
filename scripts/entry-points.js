// Part of `npm run build`: prepares dist for the ways in which the package is loaded.
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const dist = join(root, 'dist')
const commonjs = join(dist, 'commonjs')
const { exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

// CommonJS loads the same modules with require(), but TypeScript reads declarations as those of ES modules or of CommonJS
// by the nearest package.json.
for (const file of readdirSync(dist, { recursive: true }).filter((file) => file.endsWith('.d.ts')))
  cpSync(join(dist, file), join(commonjs, file))
writeFileSync(join(commonjs, 'package.json'), '{ "type": "commonjs" }\n')

// Each entry point checks the version of Node.js before it loads anything else.
for (const { default: entry } of Object.values(exports)) {
  if (entry === undefined) continue
  const file = join(root, entry)
  const check = relative(dirname(file), join(dist, 'base/node-version.js')).replaceAll('\\', '/')
  writeFileSync(file, `import '${check.startsWith('.') ? check : `./${check}`}'\n${readFileSync(file, 'utf8')}`)
}
