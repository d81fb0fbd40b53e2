import assert from 'node:assert/strict'
import { globSync, readFileSync, statSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))

/** Every user of the machine can read arguments: a secret belongs in the environment, on stdin or in a file. */
const exposing: [what: string, pattern: RegExp][] = [
  ['a password of redis-cli', /redis-cli\b[^\n|;]* (?:-a|--pass|-u)\b/],
  ['requirepass as an argument', /['" ]--(?:requirepass|masterauth)\b/],
  ['a token as an argument', /--token[ =]["']?[$<]/],
  [
    'a variable of psql from a secret',
    /psql\b[^\n]* -(?:v|-set)[ =]?\w*=?["']?[^\n]*\$\{?\w*(?:PASSWORD|SECRET|TOKEN)/,
  ],
  ['a URL with a password as an argument', /\b(?:psql|pg_basebackup|pg_dump|redis-cli)\b[^\n]*:\/\/[^\s/:@]*:[^\s@]+@/],
  ['a password of curl', /\bcurl\b[^\n]*(?:-u|--user) ?["']?[^\s"']*:/],
  [
    'a secret of docker or kubectl in an argument',
    /docker run\b[^\n]* -e ["']?\w*(?:PASSWORD|SECRET|TOKEN)=["']?[^$\s]/,
  ],
]

test('no file passes a secret in the arguments of a process', () => {
  const folders = ['src', 'deploy', 'scripts', 'docs', 'haproxy', 'nginx'].map((folder) => `${folder}/**/*`)
  // The site may be installed and built at the same time.
  const exclude = ['src/app/generated/**', 'docs/node_modules/**', 'docs/.vitepress/{cache,dist,.temp}/**']
  const files = globSync([...folders, '*.yml', '*.md', '*.cjs'], { cwd: root, exclude })
    .map((name) => `${root}${name}`)
    .filter((name) => statSync(name).isFile())
  assert.ok(files.length > 300)
  const found = files.flatMap((name) => {
    const lines = readFileSync(name, 'utf8').split('\n')
    return lines.flatMap((line, i) =>
      exposing.filter(([, pattern]) => pattern.test(line)).map(([what]) => `${name}:${i + 1} ${what}`),
    )
  })
  assert.deepEqual(found, [])
})
