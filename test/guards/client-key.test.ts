import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join, sep } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const src = fileURLToPath(new URL('../../src', import.meta.url))

/**
 * The only files that may read addresses of requests and connections themselves, and why. All other code uses
 * `clientKey()` or `clientAddress()`: a second way to identify clients could be evaded.
 */
const allowed: Readonly<Record<string, string>> = {
  'instance/client-key.ts': 'it is the one way',
  'base/internals/fastify.ts': 'asks Fastify for the address of an invented request, to compare it at boot',
  'base/internals/ioredis.ts': 'the address of a Redis server, not of a client',
  'instance/identity.ts': 'whether the peer that sent `X-Request-Id` is a trusted proxy, before there is a request',
  'instance/operators/index.ts': 'the peer of the connection, not the client, decides who is an operator',
  'state/http-cache/internal-request.ts': 'makes requests that come from no client',
  'base/http2-sessions.ts': 'names the connection in a log line and in a count of its own, not the client',
  'edge/http/origins.ts': 'the same way for the proxy, which has no Fastify',
  'edge/http/admin.ts': 'a request through a proxy is rejected, from any client',
  'edge/http/admission.ts': 'hands the header to `Origins`',
  'edge/tcp/index.ts': 'the peer is the client where there are no headers; the PROXY line names it',
}

/** Fastify's `request.ip` and `ips` in every form, and likely replacements for `clientKey()`. */
const patterns = [
  /\b(?:request|req|this)\.ips?\b/,
  /\{[^{}]*\bips?\b[^{}]*\}\s*(?:=\s*(?:request|req|this)\b|:\s*FastifyRequest\b)/,
  /\bremoteAddress\b/,
  /\bnormalizeIP\b/,
  /headers\[['"]x-(?:forwarded-for|real-ip)['"]\]/,
]

const code = (text: string): string => text.replace(/\/\*[\s\S]*?\*\/|(?<!:)\/\/.*/g, '')
const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter(
  (file) => file.endsWith('.ts') && !file.includes('generated'),
)

describe('the address of a client', () => {
  it('is read in one place only', () => {
    for (const file of files) {
      if (file.split(sep).join('/') in allowed) continue
      const text = code(readFileSync(join(src, file), 'utf8'))
      for (const pattern of patterns) assert.ok(!pattern.test(text), `${file}: use clientKey() instead of ${pattern}`)
    }
  })

  it('is detected by the patterns of this test', () => {
    for (const text of [
      'const key = request.ip',
      'const { ip } = request',
      'const by = ({ ip }: FastifyRequest) => ip',
      'const { headers, ips } = req',
      'request.socket.remoteAddress',
      "request.headers['x-forwarded-for']",
    ])
      assert.ok(
        patterns.some((pattern) => pattern.test(text)),
        text,
      )
  })
})
