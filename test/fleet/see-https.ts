// Checks TLS at a load balancer as a client; exits with 1 and prints the problem. For scripts/test-compose.
//
//   node test/fleet/see-https.ts HTTP-URL HTTPS-URL CA-FILE
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { connect } from 'node:http2'
import { text } from 'node:stream/consumers'
import type { TLSSocket } from 'node:tls'

const [http = '', https = '', ca = ''] = process.argv.slice(2)

const session = connect(https, { ca: readFileSync(ca) })
await once(session, 'connect')
assert.equal(session.alpnProtocol, 'h2')
assert.match((session.socket as TLSSocket).getProtocol() ?? '', /^TLSv1\.[23]$/)
const stream = session.request({ ':path': '/health' })
const [headers] = await once(stream, 'response')
assert.equal(headers[':status'], 200)
assert.match(String(headers['strict-transport-security']), /^max-age=\d+/)
assert.equal(JSON.parse(await text(stream)).success, true)
session.close()

const plain = await fetch(new URL('/work?ms=1', http), { method: 'POST', redirect: 'manual' })
assert.equal(plain.status, 308)
assert.match(plain.headers.get('location') ?? '', /^https:\/\/[^/]+\/work\?ms=1$/)
// Health checks need no certificate.
assert.equal((await fetch(new URL('/ready', http), { redirect: 'manual' })).status, 200)
