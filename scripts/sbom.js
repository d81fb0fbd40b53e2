// Writes the package's software bill of materials in CycloneDX JSON: the lock file's list of installed packages.
//   npm run sbom              writes sbom.cdx.json, which is part of the published package
//   npm run sbom -- FILE
import { execFileSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'

const [to = 'sbom.cdx.json'] = process.argv.slice(2)
const { name, dependencies } = JSON.parse(readFileSync('package.json', 'utf8'))
// For all packages: with `--omit dev`, npm 11 omits dependencies shared with development tools, such as fastify-plugin.
const npm = ['sbom', '--sbom-format', 'cyclonedx', '--package-lock-only']
const bom = JSON.parse(execFileSync('npm', npm, { encoding: 'utf8', maxBuffer: 2 ** 26 }))

const edges = new Map(bom.dependencies.map(({ ref, dependsOn }) => [ref, dependsOn]))
const nameOf = (ref) => ref.slice(0, ref.lastIndexOf('@'))
const root = bom.metadata.component['bom-ref']
edges.set(
  root,
  edges.get(root).filter((ref) => nameOf(ref) in dependencies),
)
const reached = new Set([root])
for (const ref of reached) for (const each of edges.get(ref) ?? []) reached.add(each)

bom.components = bom.components.filter((component) => reached.has(component['bom-ref']))
bom.dependencies = [...edges].filter(([ref]) => reached.has(ref)).map(([ref, dependsOn]) => ({ ref, dependsOn }))
// npm uses the name of the folder.
bom.metadata.component.name = name
writeFileSync(to, `${JSON.stringify(bom, null, 2)}\n`)
console.log(`${to}: ${bom.components.length} components`)
