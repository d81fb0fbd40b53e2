// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of nginx
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { dumpedFiles, parseNginx } from '../../../src/cli/doctor/readers/nginx-syntax.ts'
import { Random } from '../../fuzz/engine/random.ts'

const folder = mkdtempSync(join(tmpdir(), 'nginx-parser-'))
after(() => rmSync(folder, { recursive: true }))

/** Words of nginx, and pieces that break a statement at most places. */
const words = ['a', 'b#c', '"x y"', "'z'", 'd\\;e', '"f\\"g"', '$uri', '${host}h', '}i', 'j\\{k', '"{;}"', "'\\''"]
const pieces = ['{', '}', ';', '"', "'", ')', '#', '${', '\\', '$a{', '\n', '\t']

function nginx(text: string): string {
  const file = join(folder, 'nginx.conf')
  writeFileSync(file, text)
  return spawnSync('nginx', ['-t', '-e', join(folder, 'error.log'), '-c', file], { encoding: 'utf8' }).stderr
}

test('the parser accepts and rejects the syntax that nginx does', (t) => {
  if (spawnSync('nginx', ['-v']).error) return t.skip('nginx is not on PATH')
  const random = new Random(20)
  let [accepted, rejected] = [0, 0]
  for (let i = 0; i < 80; i++) {
    const statement = (_: unknown, n: number): string => `k${n}${random.pick(words)} ${random.pick(words)};`
    const whole = Array.from({ length: 1 + random.below(3) }, statement).join('\n')
    const at = random.below(whole.length)
    const body = i % 2 === 0 ? whole : whole.slice(0, at) + random.pick(pieces) + whole.slice(at)
    const text = `pid ${folder}/pid;\nevents {}\nhttp {\nmap $uri $y {\n${body}\n}\n}\n`
    const said = nginx(text)
    const isRejected = /unexpected|is not terminated|expecting/.test(said)
    // Other errors, e.g. of an unknown variable, hide what follows.
    if (!isRejected && !/test is successful/.test(said)) continue
    let message = ''
    try {
      parseNginx('nginx.conf', text)
    } catch (error) {
      ;({ message } = error as Error)
    }
    assert.equal(message !== '', isRejected, `${JSON.stringify(body)}: ${said}`)
    if (isRejected) rejected++
    else accepted++
  }
  assert.ok(accepted > 10 && rejected > 10, `${accepted} accepted, ${rejected} rejected`)
})

test('words have the values that nginx gives them', () => {
  const [directive] = parseNginx('f', `a "b \\"c\\" \\\\ \\d" 'x"y' d\\;e \${f}g $h#i k}l m"n;`)
  assert.deepEqual(directive?.args, ['b "c" \\ \\d', 'x"y', 'd\\;e', '${f}g', '$h#i', 'k}l', 'm"n'])
})

test('the output of nginx -T is split into its files, each with its own lines', (t) => {
  if (spawnSync('nginx', ['-v']).error) return t.skip('nginx is not on PATH')
  const [main, site] = [join(folder, 'main.conf'), join(folder, 'site.conf')]
  writeFileSync(site, 'server {\n  listen 127.0.0.1:1;\n}\n')
  writeFileSync(main, `pid ${folder}/pid;\nevents {}\nhttp {\n  include ${site};\n}\n`)
  const { stdout, stderr } = spawnSync('nginx', ['-T', '-e', join(folder, 'error.log'), '-c', main], {
    encoding: 'utf8',
  })
  const files = dumpedFiles({ file: 'dump', text: `${stderr}${stdout}` }) ?? []
  assert.deepEqual(
    files.map(({ file }) => file),
    [main, site],
  )
  assert.equal(parseNginx(site, files[1]?.text ?? '')[0]?.block?.[0]?.line, 2)
})
