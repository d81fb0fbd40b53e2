import assert from 'node:assert/strict'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { Agent, type Dispatcher, request } from 'undici'
import { until } from '../helpers/until.ts'

interface Reply {
  readonly status: number
  readonly body: Record<string, unknown>
  readonly cookie: string | undefined
}

interface SignedIn {
  readonly user: string
  readonly headers: { readonly cookie: string }
  readonly refreshToken: string
}

/** A client that uses every feature of `fixtures/everything.ts`, and checks each response. */
export class Visitor {
  requests = 0
  /** Orders that ran more than once. */
  twice = 0
  /** Events and messages received over WebSocket and event stream. */
  received = 0
  readonly #url: string
  readonly #name = randomUUID()
  readonly #agent = new Agent({ keepAliveTimeout: 2000 })
  #channel: Channel | undefined
  #visits = 0

  constructor(url: string) {
    this.#url = url
  }

  /** Starts a session and uses its cookie and its token. @throws for a response that is not as promised */
  async signIn(): Promise<SignedIn> {
    const user = `${this.#name}-${++this.#visits}`
    const login = await this.#send('POST', `/login?user=${user}`)
    const { cookie } = login
    const { accessToken, refreshToken } = login.body as { accessToken: string; refreshToken: string }
    assert.ok(cookie)
    assert.equal((await this.#send('GET', '/me', { cookie })).body.user, user)
    assert.equal((await this.#send('GET', '/token', bearer(accessToken))).body.user, user)
    return { user, headers: { cookie }, refreshToken }
  }

  /** One visit: about 25 requests. @throws for a response that is not as promised */
  async visit(): Promise<void> {
    const { user, headers: signedIn, refreshToken } = await this.signIn()
    for (const visits of [1, 2]) assert.equal((await this.#send('PUT', '/me/visits', signedIn)).body.visits, visits)
    await this.#send('POST', '/anonymous')
    const next = (await this.#post('/refresh', { token: refreshToken })).body as { accessToken: string }
    assert.equal((await this.#send('GET', '/token', bearer(next.accessToken))).body.user, user)

    const key = `key-${this.#visits % 50}`
    for (let i = 0; i < 3; i++) assert.equal((await this.#send('GET', `/cached/${key}`)).body.value, key.repeat(20))
    await this.#send('GET', '/page')
    if (this.#visits % 10 === 0) await this.#send('POST', '/forget')
    await this.#order()
    await this.#upload()
    await this.#abort()
    await this.#send('GET', '/locked')
    for (const status of [200, 200, 200, 429]) await this.#send('GET', '/limited', signedIn, undefined, status)
    await this.#talk(user)

    // The other half of the sessions and tokens expires.
    if (this.#visits % 2 === 0) return
    await this.#send('POST', '/logout', signedIn)
    assert.equal((await this.#send('GET', '/me', signedIn)).body.user, null)
    await this.#post('/revoke', { token: next.accessToken })
    // On the instance that revoked it at once, on the others within a second.
    const isRevoked = async (): Promise<boolean> =>
      (await this.#send('GET', '/token', bearer(next.accessToken), undefined, [200, 401])).status === 401
    await until(isRevoked, { what: 'a revocation' })
  }

  async close(): Promise<void> {
    this.#channel?.close()
    await this.#agent.destroy()
  }

  async #order(): Promise<void> {
    const headers = { 'idempotency-key': randomUUID() }
    const orders: unknown[] = []
    for (let i = 0; i < 2; i++) orders.push((await this.#send('POST', '/orders', headers)).body.order)
    if (orders[0] !== orders[1]) this.twice++
  }

  async #upload(): Promise<void> {
    const body = randomBytes(65_536 + (this.#visits % 4) * 65_536)
    const headers = { 'content-type': 'application/octet-stream' }
    const { digest } = (await this.#send('POST', '/upload', headers, body)).body
    assert.equal(digest, createHash('sha256').update(body).digest('hex'))
  }

  /** A client that leaves before the response. */
  async #abort(): Promise<void> {
    const abort = new AbortController()
    const aborted = request(`${this.#url}/slow`, { dispatcher: this.#agent, signal: abort.signal })
    setTimeout(() => abort.abort(), 10)
    await aborted.then(({ body }) => body.dump()).catch(() => {})
  }

  /** What is sent over the WebSocket arrives over both, which are most likely connected to different instances. */
  async #talk(text: string): Promise<void> {
    if (this.#visits % 5 === 1) {
      this.#channel?.close()
      this.#channel = new Channel(this.#url, this.#agent)
      await this.#channel.opened
    }
    const channel = this.#channel as Channel
    channel.send(text)
    await until(() => channel.has(text), { what: 'a message' })
    this.received += 2
  }

  #post(path: string, body: object): Promise<Reply> {
    return this.#send('POST', path, { 'content-type': 'application/json' }, JSON.stringify(body))
  }

  async #send(
    method: Dispatcher.HttpMethod,
    path: string,
    headers: Record<string, string> = {},
    body?: string | Buffer,
    expected: number | readonly number[] = 200,
  ): Promise<Reply> {
    this.requests++
    const response = await request(this.#url + path, { method, headers, body, dispatcher: this.#agent })
    const text = await response.body.text()
    assert.ok([expected].flat().includes(response.statusCode), `${method} ${path}: ${response.statusCode} ${text}`)
    const cookie = [response.headers['set-cookie']].flat()[0]?.split(';')[0]
    return { status: response.statusCode, body: text === '' ? {} : JSON.parse(text), cookie }
  }
}

const bearer = (token: string): Record<string, string> => ({ authorization: `Bearer ${token}` })

/** A WebSocket and an event stream. */
class Channel {
  readonly opened: Promise<unknown>
  readonly #socket: WebSocket
  readonly #abort = new AbortController()
  #sent = ''
  /** By where the last message sent has arrived. */
  readonly #arrived = new Set<string>()

  constructor(url: string, dispatcher: Agent) {
    this.#socket = new WebSocket(`${url.replace('http', 'ws')}/channel`)
    this.#socket.onmessage = ({ data }) => this.#received('socket', data)
    const open = new Promise((resolve, reject) => {
      this.#socket.onopen = resolve
      this.#socket.onerror = reject
    })
    this.opened = Promise.all([open, this.#listen(`${url}/events`, dispatcher)])
  }

  send(text: string): void {
    this.#sent = text
    this.#arrived.clear()
    this.#socket.send(text)
  }

  has(text: string): boolean {
    return this.#sent === text && this.#arrived.size === 2
  }

  close(): void {
    this.#socket.close()
    this.#abort.abort()
  }

  async #listen(url: string, dispatcher: Agent): Promise<void> {
    const { body } = await request(url, { dispatcher, signal: this.#abort.signal })
    const { promise, resolve } = Promise.withResolvers<void>()
    body.on('error', () => {})
    body.setEncoding('utf8').on('data', (text: string) => {
      if (text.includes('hello')) resolve()
      this.#received('stream', text)
    })
    await promise
  }

  #received(by: string, text: string): void {
    if (this.#sent !== '' && text.includes(this.#sent)) this.#arrived.add(by)
  }
}
