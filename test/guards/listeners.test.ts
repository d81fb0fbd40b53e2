import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, sep } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { managementBounds } from '../../src/instance/operators/listener.ts'
import { boundOptions } from '../../src/instance/server-bounds.ts'
import { adminServer, proxyHttp1, proxyHttp2, tcpProxy } from '../edge/hostile-scripts.ts'
import { controlSocket } from '../host/hostile-scripts.ts'
import { agentCheckPort, instanceHttp1, instanceHttp2, managementListener } from '../instance/hostile-scripts.ts'

const root = fileURLToPath(new URL('../..', import.meta.url))
const read = (file: string): string => readFileSync(join(root, file), 'utf8')
const files = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
  .filter((file) => file.endsWith('.ts') && !file.includes('generated'))
  .map((file) => file.replaceAll(sep, '/'))

/** Every file that creates a server, and the name of its row in docs/bounds.md. */
const listeners: Record<string, string> = {
  'edge/http/node-server.ts': 'built-in proxy (`createProxy`)',
  'edge/http/admin.ts': 'proxy’s admin server',
  'edge/tcp/index.ts': 'TCP proxy (`createTcpProxy`)',
  'instance/agent-check.ts': 'agent-check port',
  'instance/operators/listener.ts': 'management listener (`FLEET_ADMIN_PORT`)',
  'host/control.ts': 'control socket of `fleet start`',
}
const titlesIn = (...files: readonly string[]): string[] =>
  files.flatMap((file) => read(`test/${file}`).match(/(?<=\b(?:it|test)\(['`])(?:[^'`])+/g) ?? [])
const edge = titlesIn('edge/hostile-client.test.ts', 'edge/bounds.test.ts', 'edge/http/server.test.ts')
const instance = titlesIn('instance/hostile-client.test.ts', 'instance/bounds.test.ts')
const control = titlesIn('host/hostile-client.test.ts', 'host/control.test.ts')
/** The names of the tests of each listener, by its column in docs/bounds.md. */
const tests: Record<string, readonly string[]> = {
  'built-in proxy (`createProxy`)': [...Object.keys(proxyHttp1), ...edge],
  instance: [...Object.keys(instanceHttp1), ...instance],
  "proxy's admin server": [...Object.keys(adminServer), ...edge],
  'management listener (`FLEET_ADMIN_PORT`)': [
    ...Object.keys(managementListener),
    ...titlesIn('instance/management.test.ts'),
  ],
  'built-in proxy with `tls`': [...Object.keys(proxyHttp2), ...edge],
  'instance with `http2`': [...Object.keys(instanceHttp2), ...instance],
  'built-in proxy': Object.keys(proxyHttp1),
  'TCP proxy (`createTcpProxy`)': [...Object.keys(tcpProxy), ...edge, ...titlesIn('edge/tcp/tcp-proxy.test.ts')],
  'agent-check port': [...Object.keys(agentCheckPort), ...instance],
  'control socket of `fleet start`': [...Object.keys(controlSocket), ...control],
}

/** The rows of all tables in a Markdown text, each with the heads of its columns. */
function tableRows(text: string): { columns: string[]; row: string[] }[] {
  const rows: { columns: string[]; row: string[] }[] = []
  let columns: string[] | undefined
  for (const line of text.split('\n')) {
    const row = line.startsWith('|')
      ? line
          .split('|')
          .slice(1, -1)
          .map((cell) => cell.trim())
      : undefined
    if (row === undefined) columns = undefined
    else if (columns === undefined) columns = row
    else if (!line.startsWith('|---')) rows.push({ columns, row })
  }
  return rows
}

/** It only checks whether a port is free, and destroys every connection. */
const exempt = ['cli/up/port.ts']

describe('every listener', () => {
  it('is listed, guards its connections, and has its limits in docs/bounds.md', () => {
    const makers = files.filter((file) =>
      /\bcreate(?:Secure)?Server\(|\bnew (?:Tcp)?Server\(/.test(
        read(`src/${file}`).replace(/\/\*[\s\S]*?\*\/|\/\/.*/g, ''),
      ),
    )
    assert.deepEqual(makers.toSorted(), [...Object.keys(listeners), ...exempt].toSorted())
    const docs = read('docs/bounds.md').replaceAll('’', "'")
    for (const [file, name] of Object.entries(listeners)) {
      assert.match(read(`src/${file}`), /\bguardConnections\(/, file)
      assert.ok(docs.includes(name.replaceAll('’', "'")), name)
    }
  })

  it('has a test for every cell of docs/bounds.md', () => {
    const all = Object.values(tests).flat()
    let cells = 0
    for (const { columns, row } of tableRows(read('docs/bounds.md'))) {
      const names = [...(row.at(-1) ?? '').matchAll(/`([^`]+)`/g)].map(([, name]) => name as string)
      for (const [i, column] of columns.entries()) {
        const titles = tests[column]
        if (!titles || row[i] === '—') continue
        cells++
        const tested = names.some((name) => titles.some((title) => title.includes(name)))
        assert.ok(tested, `${column}, ${row[0]}: has none of the tests ${names}`)
      }
      for (const name of names)
        assert.ok(
          all.some((title) => title.includes(name)),
          `no test is named ${name}`,
        )
    }
    assert.ok(cells > 80, String(cells))
  })

  it('guards upgraded sockets: a file that handles `connect` or `upgrade` guards its connections', () => {
    for (const file of files) {
      const text = read(`src/${file}`)
      if (!/\.(?:on|once|addListener)\('(?:connect|upgrade)', \((?:request|incoming)/.test(text)) continue
      assert.ok(['edge/http/server.ts', 'instance/operators/listener.ts'].includes(file), `${file}: guardConnections()`)
    }
  })

  it('detects HTTP/2 by the connection, never by the request line', () => {
    // Node's parser accepts `HTTP/2.0` in the request line of an HTTP/1.1 connection.
    const branches = files.filter((file) => /httpVersion(?:Major)? === (?:2|'2\.0')/.test(read(`src/${file}`)))
    // It has already rejected that version on HTTP/1.1.
    assert.deepEqual(branches, ['edge/http/admission.ts'])
  })

  it('has its defaults for instances in docs/bounds.md', () => {
    const docs = read('docs/bounds.md')
    for (const name of Object.keys(boundOptions)) assert.ok(docs.includes(`lifecycle.connections.${name}\``), name)
  })

  it('has the limits of the management listener in docs/bounds.md', () => {
    const { headersTimeout, requestTimeout, keepAliveTimeout, sendTimeoutMs, maxHeaderSize, maxConnections } =
      managementBounds
    const column = 'management listener (`FLEET_ADMIN_PORT`)'
    const documented = Object.fromEntries(
      tableRows(read('docs/bounds.md'))
        .filter(({ columns }) => columns.includes(column))
        .map(({ columns, row }) => [row[0], row[columns.indexOf(column)]]),
    )
    assert.deepEqual(
      ['headers, time', 'headers, size', 'request, time', 'idle', 'send stall', 'connections'].map(
        (bound) => documented[bound],
      ),
      [
        `${headersTimeout / 1000} s`,
        `${maxHeaderSize / 1024} KiB`,
        `${requestTimeout / 1000} s`,
        `${keepAliveTimeout / 1000} s`,
        `${sendTimeoutMs / 1000} s`,
        String(maxConnections),
      ],
    )
  })
})
