import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, sep } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { boundOptions } from '../../src/instance/server-bounds.ts'

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
  'instance/operators/listener.ts': 'Management listener of an instance',
  'host/control.ts': 'control socket of `fleet start`',
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
})
