import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { connect as connectHttp2 } from 'node:http2'
import { request } from 'node:https'
import { join } from 'node:path'
import { test } from 'node:test'
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls'
import { launch } from '../../src/cli/up/child.ts'
import { freePort } from '../helpers/free-port.ts'
import { until } from '../helpers/until.ts'
import { startUpstream } from '../helpers/upstream.ts'
import { makeCertificates, startFront, tlsValues } from './front.ts'

const [ocspPort, httpsPort] = [await freePort(), await freePort()]
const certificates = await makeCertificates(`http://127.0.0.1:${ocspPort}`)
const ca = readFileSync(join(certificates, 'ca.pem'))
const acme = join(certificates, 'acme')
const app = await startUpstream('app')
const front = await startFront({
  FLEET_TARGETS: app.target,
  FLEET_HTTPS_PORT: httpsPort,
  FLEET_HTTPS_REDIRECT_PORT: `:${httpsPort}`,
  FLEET_ACME_ROOT: acme,
  ...tlsValues(certificates),
})

/** A handshake with verification of the name and the chain. */
async function handshake(options: ConnectionOptions = {}, port = httpsPort): Promise<TLSSocket> {
  const socket = connect({ port, host: '127.0.0.1', servername: 'localhost', ca, ...options })
  await once(socket, 'secureConnect')
  return socket
}

test('accepts TLS 1.2 and 1.3 only', async () => {
  for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
    const socket = await handshake({ minVersion: version, maxVersion: version })
    assert.equal(socket.getProtocol(), version)
    assert.ok(socket.authorized)
    socket.destroy()
  }
  for (const version of ['TLSv1', 'TLSv1.1'] as const) {
    const old = { minVersion: version, maxVersion: version, ciphers: 'ALL@SECLEVEL=0' }
    await assert.rejects(handshake(old), /protocol version|ECONNRESET/, version)
  }
})

test('TLS 1.2 offers only forward secrecy and authenticated encryption', async () => {
  const socket = await handshake({ maxVersion: 'TLSv1.2' })
  assert.match(socket.getCipher().standardName, /^TLS_ECDHE_ECDSA_WITH_(AES_\d+_GCM|CHACHA20_POLY1305)_/)
  socket.destroy()
  for (const ciphers of ['AES128-SHA', 'ECDHE-ECDSA-AES128-SHA', 'ECDHE-ECDSA-AES256-SHA384', 'AES128-GCM-SHA256']) {
    await assert.rejects(handshake({ maxVersion: 'TLSv1.2', ciphers }), /handshake failure/, ciphers)
  }
})

test('the certificate is valid for its names and addresses only', async () => {
  await assert.rejects(handshake({ servername: 'elsewhere.test' }), /altnames|ERR_TLS_CERT_ALTNAME_INVALID/)
  const socket = connect({ port: httpsPort, host: '127.0.0.1', ca })
  await once(socket, 'secureConnect')
  socket.destroy()
})

test('HTTP redirects to TLS with method and query, and serves ACME challenges', async () => {
  for (const method of ['GET', 'POST']) {
    const { status, headers } = await front.send('/a/b?c=%2F', { method, headers: { host: 'shop.test:80' } })
    assert.deepEqual([status, headers.location], [308, `https://shop.test:${httpsPort}/a/b?c=%2F`])
    assert.equal(headers['strict-transport-security'], undefined)
  }
  mkdirSync(join(acme, '.well-known/acme-challenge'), { recursive: true, mode: 0o755 })
  writeFileSync(join(acme, '.well-known/acme-challenge/token'), 'token.thumbprint')
  writeFileSync(join(acme, 'secret'), 'secret')
  await launch('chmod', ['711', certificates, acme, join(acme, '.well-known')]).exit
  const { status, body, headers } = await front.send('/.well-known/acme-challenge/token')
  assert.deepEqual([status, body, headers['content-type']], [200, 'token.thumbprint', 'text/plain'])
  assert.equal((await front.send('/.well-known/acme-challenge/none')).status, 404)
  assert.equal((await front.send('/.well-known/acme-challenge/../../secret')).status, 308)
  assert.equal(app.seen.length, 0)
  // Health checks need no certificate.
  assert.equal((await front.send('/ready')).status, 200)
  assert.equal((await front.send('/ready/')).status, 308)
})

const get = async (path: string): Promise<{ status?: number; headers: NodeJS.Dict<string | string[]> }> => {
  const sent = request({ port: httpsPort, host: '127.0.0.1', path, ca, agent: false })
  sent.end()
  const [response] = await once(sent, 'response')
  response.resume()
  return { status: response.statusCode, headers: response.headers }
}

test('sends HSTS over TLS only, and replaces that of an instance', async () => {
  app.handler = (_request, response) => response.setHeader('Strict-Transport-Security', 'max-age=1').end('ok')
  for (const path of ['/', '/metrics', '/health']) {
    assert.equal((await get(path)).headers['strict-transport-security'], 'max-age=31536000', path)
  }
  assert.equal(app.seen.at(-1)?.headers['x-forwarded-proto'], 'https')
  assert.equal((await get('/metrics')).status, 404)
})

test('serves HTTP/2', async () => {
  const session = connectHttp2(`https://127.0.0.1:${httpsPort}`, { ca })
  const stream = session.request({ ':path': '/over-http2', ':method': 'POST' })
  stream.end('body')
  const [headers] = await once(stream, 'response')
  assert.equal(headers[':status'], 200)
  assert.match(String(headers['strict-transport-security']), /max-age/)
  stream.resume()
  await once(stream, 'end')
  assert.equal(app.seen.at(-1)?.path, '/over-http2')
  assert.equal(app.seen.at(-1)?.headers.host, `127.0.0.1:${httpsPort}`)
  session.close()
  await front.reload({ FLEET_HTTP2: 'off' })
  const socket = await until(
    async () => {
      const tried = await handshake({ ALPNProtocols: ['h2', 'http/1.1'] })
      if (tried.alpnProtocol === 'http/1.1') return tried
      tried.destroy()
      return undefined
    },
    { what: 'HTTP/1.1' },
  )
  socket.destroy()
})

test('staples OCSP responses with FLEET_STAPLING=on', async () => {
  const responder = launch('openssl', [
    ...['ocsp', '-port', String(ocspPort), '-index', join(certificates, 'index.txt'), '-ignore_err'],
    ...['-CA', join(certificates, 'ca.pem'), '-rsigner', join(certificates, 'ca.pem')],
    ...['-rkey', join(certificates, 'ca-key.pem'), '-ndays', '1'],
  ])
  // A new process per request: it serves one connection to its end before the next.
  await responder.waitFor(/waiting for OCSP/)
  const stapled = async (): Promise<Buffer | undefined> => {
    const socket = connect({ port: httpsPort, host: '127.0.0.1', servername: 'localhost', ca, requestOCSP: true })
    const response = once(socket, 'OCSPResponse')
    await once(socket, 'secureConnect')
    const [sent] = await response
    socket.destroy()
    return sent ?? undefined
  }
  assert.equal(await stapled(), undefined)
  await front.reload({ FLEET_STAPLING: 'on' })
  // The first handshakes have no staple: nginx queries the responder meanwhile.
  const sent = await until(stapled, { what: 'a stapled response' })
  writeFileSync(join(certificates, 'stapled.der'), sent)
  const read = launch('openssl', [
    ...['ocsp', '-respin', join(certificates, 'stapled.der'), '-CAfile', join(certificates, 'ca.pem')],
    ...['-issuer', join(certificates, 'ca.pem'), '-cert', join(certificates, 'fullchain.pem'), '-no_nonce'],
  ])
  await read.exit
  assert.match(read.stdout, /: good/, read.stderr)
  await responder.stop()
})
