// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables of the files that are read
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, test } from 'node:test'
import doctor from '../../../src/cli/commands/doctor.ts'
import { examineBounded } from '../../../src/cli/doctor/bounded.ts'
import { collect } from '../../../src/cli/doctor/files.ts'
import { referencesOf } from '../../../src/cli/doctor/readers/references.ts'
import { exportsOf, isObject, jsonOf, type StaticValue, unresolved } from '../../../src/cli/doctor/readers/static-js.ts'
import { examine, readAll } from '../../../src/cli/doctor/run.ts'
import { runCommand } from '../commands.ts'

const folder = mkdtempSync(join(tmpdir(), 'untrusted-'))
after(() => rmSync(folder, { recursive: true }))
const write = (name: string, text: string): string => {
  const path = join(folder, name)
  writeFileSync(path, text)
  return path
}
const offline = { longestMs: 10_000, connect: false }

/** As plain data; `?` stands for an unresolved value. */
function plain(value: StaticValue): unknown {
  if (value === unresolved) return '?'
  if (isObject(value)) return Object.fromEntries([...value].map(([name, one]) => [name, plain(one.value)]))
  return Array.isArray(value) ? (value as readonly StaticValue[]).map(plain) : value
}

describe('an ecosystem file', () => {
  test('is not executed', async () => {
    const mark = join(folder, 'ran')
    const body = `require('fs').writeFileSync(${JSON.stringify(mark)}, process.env.FLEET_ADMIN_TOKEN ?? '')`
    const apps = "apps: [{ name: 'web', script: 'x.js' }]"
    write('ecosystem.config.cjs', `${body}\nmodule.exports = { ${apps}, x: ${body} }\n`)
    write('ecosystem.config.js', `module.exports = { ${apps} }; ${body}`)
    write(
      'ecosystem.config.mjs',
      `import { writeFileSync } from 'node:fs'\nwriteFileSync('${mark}', '')\nexport default { ${apps} }`,
    )
    write('ecosystem.x.config.cjs', `module.exports = { get apps() { ${body}; return [] } }`)
    write('ecosystem.y.config.cjs', `module.exports = { ${apps}, [(() => { ${body} })()]: 1, [\`\${${body}}\`]: 2 }`)
    const { stdout } = await runCommand(doctor, folder, '--offline', '--json')
    assert.match(stdout, /DOCTOR_PM2_WAIT_READY/)
    assert.ok(!existsSync(mark))
  })

  test('has the values of its literals, constants and defaults', () => {
    const text = `
      // a comment with apps: [] in it
      const path = require('path'), ms = 1_000, { X } = process.env
      let port = 3000
      port += 1
      const shutdown = Number(process.env.SHUTDOWN_TIMEOUT || 30 * ms)
      const common = { wait_ready: true, 'kill-timeout': shutdown + 5e3, path: path.join(__dirname, 'x') }
      function ignored() { module.exports = 1 }
      const fn = async (a) => { return /[/"']/.test(a) }
      module.exports = {
        apps: [
          { ...common, name: 'a' + 'b', script: \`./\${'x'}.js\`, port, list: [1, -2, ...[3]], fn() { return 1 }, fn },
          { name: X, env: { ...process.env, A: process.env.A ?? 'a', B: process.env.B, C: cluster ? 1 : 2 } },
          require('./other'),
        ],
        deploy: { n: (1 + 2) * 3 ** 2 / 2, t: true ? null : 1, u: !0, v: 'a' === 'b', w: "\\u0041\\x42\\n", x: 0x10 },
      }`
    assert.deepEqual(plain(exportsOf(text)), {
      apps: [
        {
          ...{ wait_ready: true, 'kill-timeout': 35_000, path: '?', name: 'ab', script: './x.js', port: '?' },
          ...{ list: [1, -2, 3], fn: '?' },
        },
        { name: '?', env: { A: 'a', B: undefined, C: '?' } },
        '?',
      ],
      deploy: { n: 13.5, t: null, u: true, v: false, w: 'AB\n', x: 16 },
    })
    for (const form of [
      'module.exports = X',
      'export default X',
      'exports.apps = [1]',
      'module.exports.apps = [1]',
      'export const apps = [1]',
    ])
      assert.deepEqual(plain(exportsOf(form.replace('X', '{ apps: [1] }'))), { apps: [1] })
    assert.deepEqual(plain(jsonOf('{"apps":[{"a":[1,"x",null]}]}')), { apps: [{ a: [1, 'x', null] }] })
    assert.equal(exportsOf('if (x) { module.exports = { apps: [] } }'), unresolved)
  })

  test('is reported as not judged when its apps are computed', async () => {
    const of = async (text: string): Promise<string[]> => {
      const { read } = await examine([{ file: 'ecosystem.config.cjs', text }], offline)
      return read.flatMap(({ unjudged }) => unjudged.map(({ why }) => why))
    }
    const why = 'apps are computed; name the file to have it evaluated: fleet doctor ecosystem.config.cjs'
    assert.deepEqual(await of('module.exports = require("./apps")'), [why])
    assert.deepEqual(await of('module.exports = { apps: names.map((name) => ({ name })) }'), [why])
    assert.deepEqual(await of('const config = { apps: [] }\nconfig.apps.push({})\nmodule.exports = config'), [why])
    assert.deepEqual(await of('module.exports = [{ script: "a.js", instances: 2, wait_ready: true }]'), [])
    const python = await of('module.exports = { apps: [{ script: "a.py", interpreter: "python3" }] }')
    assert.deepEqual(python, ['ecosystem.config.cjs is no program of Node'])
  })

  test('cannot exhaust the memory or the stack of the reader', () => {
    const doubling = Array.from(
      { length: 60 },
      (_, i) => `const a${i + 1} = a${i} + a${i}, b${i + 1} = [...b${i}, ...b${i}]`,
    )
    assert.ok(exportsOf(`const a0 = 'x', b0 = [1]\n${doubling.join('\n')}\nmodule.exports = { a: a60, b: b60 }`))
    for (const deep of ['[', '(', '{a:', '-', '!', 'x=>', '1?', '1**', '`${', 'a[', 'a(', '{[', 'new ', '...', 'a?.'])
      try {
        exportsOf(`module.exports = ${deep.repeat(20_000)}`)
      } catch (error) {
        assert.ok(error instanceof SyntaxError, String(error))
      }
  })
})

describe('an untrusted folder', () => {
  test('is read without its devices, pipes, links and large files', async () => {
    const own = mkdtempSync(join(folder, 'files-'))
    const outside = write('secret.env', 'REDIS_URL=redis://127.0.0.1:1\nSESSION_SECRET=short\n')
    symlinkSync(outside, join(own, '.env'))
    symlinkSync('/dev/zero', join(own, 'zero.env'))
    symlinkSync('/', join(own, 'root'))
    execFileSync('mkfifo', [join(own, 'pipe.env')])
    writeFileSync(join(own, 'large.env'), `A=${'x'.repeat(1_000_001)}`)
    writeFileSync(join(own, 'compose.yml'), 'services: {}\n')
    assert.deepEqual(
      collect([own]).map(({ file }) => file.split('/').at(-1)),
      ['compose.yml'],
    )
    assert.deepEqual(collect([join(own, 'compose.yml')]).length, 1)
    for (const name of ['/dev/zero', join(own, 'pipe.env')])
      assert.throws(() => collect([name]), { code: 'FLEET_ERR_USAGE', message: /not a regular file/ })
  })

  test('is left by no file that another one names', async () => {
    const own = mkdtempSync(join(folder, 'references-'))
    const outside = write('outside.env', 'SHUTDOWN_TIMEOUT=60000\nFLEET_NAME=x\n')
    symlinkSync(outside, join(own, 'link.env'))
    symlinkSync(folder, join(own, 'up'))
    const names = ['../outside.env', 'link.env', 'up/outside.env', outside, '/dev/zero']
    writeFileSync(
      join(own, 'compose.yml'),
      `services: { a: { build: ., env_file: [${names}], extends: { file: ../x.yml, service: a } } }`,
    )
    writeFileSync(
      join(own, 'a.service'),
      `[Service]\n${names.map((name) => `EnvironmentFile=${name}\n`).join('')}ExecStart=node a.js\n`,
    )
    mkdirSync(join(own, 'a.service.d'))
    symlinkSync(outside, join(own, 'a.service.d', 'b.conf'))
    for (const sources of [collect([own]), collect([join(own, 'compose.yml'), join(own, 'a.service')])])
      assert.deepEqual(sources.map(({ file }) => file.split('/').at(-1)).sort(), ['a.service', 'compose.yml'])
  })

  test('can end its own examination, not the process', async () => {
    // No thread starts within this time.
    await assert.rejects(examineBounded([{ file: 'compose.yml', text: 'services: {}' }], offline, 1), {
      code: 'FLEET_ERR_USAGE',
      message: /took longer/,
    })
    const [value, uses] = [`A=${'x'.repeat(1000)}\n`, '${A}'.repeat(240_000)]
    const many = Array.from({ length: 32 }, (_, i) => ({ file: `${i}.conf`, text: uses }))
    const bomb = examineBounded([{ file: '.env', text: value }, ...many], offline)
    await bomb.catch((error) => assert.equal(error.code, 'FLEET_ERR_USAGE'))
  })

  test('cannot multiply its values by aliases and presets', async () => {
    const laughs = Array.from({ length: 30 }, (_, i) => `a${i + 1}: &a${i + 1} [${`*a${i}, `.repeat(9)}]`)
    const yaml = {
      file: 'compose.yml',
      text: `a0: &a0 [x]\n${laughs.join('\n')}\nservices: { a: { environment: *a30 } }`,
    }
    const presets = Array.from({ length: 60 }, (_, i) => `  presetenv A${i + 1} "$A${i}$A${i}"`)
    const haproxy = {
      file: 'a.cfg',
      text: `global\n  presetenv A0 x\n${presets.join('\n')}\nbackend a\n  server a "$A60"\n`,
    }
    const { findings } = await examineBounded([yaml, haproxy], offline)
    assert.deepEqual(
      findings.map(({ code, file }) => [code, file]).filter(([, file]) => file === 'compose.yml'),
      [['DOCTOR_SYNTAX', 'compose.yml']],
    )
  })

  test('is read in time linear to its size', { timeout: 120_000 }, async () => {
    const units = [
      '${',
      '"',
      "'",
      '`',
      '/*',
      '//',
      '<<A\n',
      '{',
      '[',
      '(',
      '${a-',
      '"${a}',
      '\\"',
      'a ',
      '\n',
      ' ',
      '$A',
    ]
    const more = [
      '-',
      '*',
      '=>',
      '1+',
      '/[',
      '"a":{',
      'CMD ',
      'setTimeout(',
      '-/env',
      'include *',
      'location / { proxy_pass http://a; } ',
      'backend a\n server a b\n',
      'use_backend %[a]\n',
      'frontend a\n',
      '.if 1\n',
      '#',
      '`${',
      'keepAliveTimeout ',
    ]
    const files: [file: string, head: string][] = [
      ['nginx.conf', ''],
      ['nginx.conf', 'http { server { location / { proxy_pass http://a; '],
      ['a.conf', ''],
      ['a.cfg', 'backend a\n'],
      ['a.service', 'ExecStart=node '],
      ['plan.json', '{"format_version":"1.2","values":'],
      ['.env', 'REDIS_URL='],
      ['Dockerfile', 'CMD '],
      ['ecosystem.json', '{"apps":'],
      ['a.Dockerfile', 'FROM node AS a\nFROM a AS a\nRUN <<A\n'],
      ['ecosystem.config.cjs', 'module.exports = '],
    ]
    for (const [file, head] of files)
      for (const unit of [...units, ...more]) await readAll([{ file, text: head + unit.repeat(100_000 / unit.length) }])
    // Outside the thread that is bounded.
    for (const head of ['env_file: ', 'env_file:\n- a\n', 'env_file: [', 'file: '])
      for (const unit of [...units, ...more, 'env_file:\n', 'path:'])
        referencesOf({ file: 'compose.yml', text: head + unit.repeat(100_000 / unit.length) })
  })

  test('causes logins to a limited number of servers, and nothing else', async () => {
    let [connections, received] = [0, '']
    const server = createServer((socket) => {
      connections++
      socket.on('data', (data) => {
        received += data
        // This server never stops sending.
        const more = setInterval(() => socket.write('x'.repeat(100)), 1)
        socket.on('close', () => clearInterval(more))
      })
      socket.on('error', () => {})
    })
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    after(() => server.close())
    const { port } = server.address() as { port: number }
    const at = (login: string): string => `REDIS_URL=redis://${login}127.0.0.1:${port}\n`
    const send = async (text: string): Promise<string> => {
      const sources = [{ file: '.env', text }]
      return JSON.stringify((await examine(sources, { longestMs: 10_000, connect: true })).findings)
    }
    assert.match(await send(at(':a%0D%0AGET%20%2F%20HTTP%0D%0A@')), /control characters/)
    assert.equal(connections, 0)
    assert.match(await send(at('')), /not the response of such a server/)
    assert.equal(received, '*1\r\n$4\r\nPING\r\n')
    await send(`REDIS_URL=\nDATABASE_REPLICA_URLS=${Array(500).fill(`postgres://127.0.0.1:${port}/a`).join()}\n`)
    assert.ok(connections <= 33)
  })
})
