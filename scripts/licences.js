// Lists the licences of everything that is installed with the package or is in the image, and checks them:
//   npm run licences              writes THIRD_PARTY_LICENSES.md
//   npm run licences -- --check   fails when that file is not current
// Both fail on a licence that is not allowed. Development tools are not distributed, and not listed.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { modulesOf } from './image-modules.js'

const file = 'THIRD_PARTY_LICENSES.md'
/** Permissive licences of code, and those for data. */
const allowed = new Set([
  ...['MIT', 'MIT-0', 'ISC', 'BSD-2-Clause', 'BSD-3-Clause', '0BSD', 'Apache-2.0', 'BlueOak-1.0.0', 'Unlicense'],
  ...['Zlib', 'Python-2.0', 'CC0-1.0', 'CC-BY-3.0', 'CC-BY-4.0'],
])

/** Whether an SPDX expression can be met with licences that are allowed. */
export function isAllowed(expression) {
  const bare = expression.trim().replace(/^\((.*)\)$/, '$1')
  if (/[()]/.test(bare)) return false
  return bare.split(/\s+OR\s+/).some((choice) => choice.split(/\s+AND\s+/).every((id) => allowed.has(id)))
}

const manifest = (folder) => JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))

function describe(folder) {
  const { name, version, license, licenses, private: isPrivate } = manifest(folder)
  const declared = license ?? licenses ?? 'none'
  const expression = [declared]
    .flat()
    .map((each) => (typeof each === 'string' ? each : each.type))
    .join(' OR ')
  const text = readdirSync(folder).find((entry) => /^licen[cs]e(?:\.\w+)?$/i.test(entry))
  return {
    name,
    version,
    licence: expression,
    isPrivate,
    text: text === undefined ? '' : readFileSync(join(folder, text), 'utf8').replaceAll('\r\n', '\n').trim(),
  }
}

/** What the image has besides the dependencies, as the Dockerfile names it. */
function imagePackages() {
  const found = /image-modules\.js \S+ \\\n((?:.*\\\n)*.*)/.exec(readFileSync('Dockerfile', 'utf8'))
  return found[1].replaceAll('\\', ' ').trim().split(/\s+/)
}

/** Every distributed package, and whether it comes with the package or is in the image alone. */
export function distributed() {
  const own = modulesOf(Object.keys(manifest('.').dependencies))
  const all = new Set([...own, ...modulesOf(imagePackages())])
  return [...all]
    .map((folder) => ({ ...describe(folder), where: own.has(folder) ? 'package' : 'image' }))
    .sort((a, b) => (a.name + a.version < b.name + b.version ? -1 : 1))
}

export function render(packages) {
  const rows = packages.map(({ name, version, licence, where }) => `| ${name} | ${version} | ${licence} | ${where} |`)
  const texts = Map.groupBy(
    packages.filter(({ text }) => text !== ''),
    ({ text }) => text,
  )
  const sections = [...texts].map(([text, users]) => {
    const names = users.map(({ name, version }) => `${name} ${version}`).join(', ')
    return `### ${names}\n\n\`\`\`text\n${text}\n\`\`\`\n`
  })
  return `# Third-party licences

Made by \`npm run licences\`. *package*: installed with fastify-fleet. *image*: in the image of the reference application only.

| Package | Version | Licence | Where |
|---|---|---|---|
${rows.join('\n')}

## Texts

${sections.join('\n')}`
}

function main(check) {
  const packages = distributed()
  const wrong = packages.filter(({ licence }) => !isAllowed(licence))
  for (const { name, version, licence } of wrong) console.error(`${name} ${version}: ${licence} is not allowed`)
  const text = render(packages)
  if (!check) writeFileSync(file, text)
  else if (readFileSync(file, 'utf8') !== text) {
    console.error(`${file} is not current; run: npm run licences`)
    process.exitCode = 1
  }
  if (wrong.length > 0) process.exitCode = 1
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) main(process.argv.includes('--check'))
