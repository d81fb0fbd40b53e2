import { setTimeout as delay } from 'node:timers/promises'
import { dictionary } from '../../base/dictionary.ts'
import { plural } from '../output.ts'
import { member, type TargetResponse } from '../target.ts'
import { byName, type CheckContext, instancesIn, outcomes, rounds, succeeded, wanted } from './context.ts'
import type { CheckResults } from './report.ts'

/** Credentials and paths of the login. */
export interface Login {
  readonly user: string
  readonly password: string
  readonly loginPath: string
  readonly mePath: string
  readonly logoutPath: string
}

type Credentials = Record<string, string>

/** Limit for a revocation to reach every instance, ms. */
const revocationMs = 1_000

/** @param required whether an application without a login fails the test */
export const sessions = (
  context: CheckContext,
  login: Login,
  required: boolean,
  results: CheckResults,
): Promise<void> => new SessionCheck(context, login, results).run(required)

/**
 * Checks that a login is valid on every instance, as cookie and as token; that forged credentials are rejected; and that a
 * logout is valid on every instance.
 */
class SessionCheck {
  readonly #context: CheckContext
  readonly #login: Login
  readonly #results: CheckResults

  constructor(context: CheckContext, login: Login, results: CheckResults) {
    this.#context = context
    this.#login = login
    this.#results = results
  }

  async run(required: boolean): Promise<void> {
    const { user, password, loginPath, mePath } = this.#login
    const body = { email: user, password }
    const response = await this.#context.front.request(loginPath, { method: 'POST', body })
    if (!succeeded(response)) return this.#loginRejected(response, required)
    const anonymous = await this.#me({})
    if (anonymous.status === 401) this.#results.pass(`${mePath} without a login: 401`)
    else this.#results.fail(`${mePath} without a login: ${outcomes([anonymous])}; it should be 401`)

    const cookie = await this.#sessionCookie(response)
    const token = tokenOf(response.json)
    if (cookie === undefined) this.#results.skip('the login sets no session cookie')
    else await this.#valid('session', { cookie })
    if (token === undefined) this.#results.skip('the login returns no token')
    else await this.#valid('token', bearer(token))
    await this.#forged(cookie, token)
    if (cookie !== undefined) await this.#loggedOut({ cookie }, token)
  }

  #me(headers: Credentials): Promise<TargetResponse> {
    return this.#context.front.request(this.#login.mePath, { headers })
  }

  #loginRejected(response: TargetResponse, required: boolean): void {
    const { loginPath, user } = this.#login
    const text = `POST ${loginPath}: ${outcomes([response])}`
    if (response.status === 404 && !required) this.#results.skip(`${text}; no login to test`, 'pass --login-path')
    else if (response.status === 404) this.#results.fail(text, 'pass --login-path')
    else if (response.status === 429) this.#results.fail(text, 'the front limits logins; try again later')
    else this.#results.fail(`${text} as ${user}`, 'pass --user and --password of an account')
  }

  /**
   * Finds the cookie of the login that identifies the user, because a front may add a cookie for stickiness. Several attempts are needed
   * when only one instance knows the session.
   */
  async #sessionCookie(response: TargetResponse): Promise<string | undefined> {
    for (let i = 0; i < rounds(wanted(this.#context)); i++) {
      for (const cookie of response.cookies) {
        if (succeeded(await this.#me({ cookie }))) return cookie
      }
    }
    return undefined
  }

  /** Checks that the credentials are valid for the same user on every instance and direct address. */
  async #valid(kind: string, headers: Credentials): Promise<void> {
    const responses = await this.#requestEveryInstance(headers)
    const wrong = responses.filter((response) => !succeeded(response))
    const users = new Set(responses.filter(succeeded).map(({ json }) => userOf(json)))
    const ids = [...instancesIn(responses).keys()].sort(byName)
    const needed = wanted(this.#context)
    if (wrong.length > 0) {
      const where = [...new Set(wrong.map(({ instanceId }) => instanceId ?? 'the front'))].join(', ')
      this.#results.fail(
        `the ${kind} was rejected by ${where}: ${wrong.length} of ${responses.length} (${outcomes(wrong)})`,
        `set the same secrets and REDIS_URL on each instance`,
      )
    } else if (users.size !== 1 || users.has(undefined)) {
      this.#results.fail(`the ${kind} is not the same user everywhere: ${[...users].map(String).join(', ')}`)
    } else if (ids.length < needed) {
      this.#results.skip(
        `the ${kind} reached ${ids.length} of ${needed} instances in ${plural(responses.length, 'request')}`,
        'the front is sticky: pass the address of each instance (--instance)',
      )
    } else this.#results.pass(`the ${kind} is ${[...users][0]} on ${plural(ids.length, 'instance')}: ${ids.join(', ')}`)
  }

  /** Requests the user over new connections until enough instances have responded, then from each direct address. */
  async #requestEveryInstance(headers: Credentials): Promise<TargetResponse[]> {
    const responses: TargetResponse[] = []
    const needed = wanted(this.#context)
    for (let i = 0; i < rounds(needed) && instancesIn(responses).size < needed; i++)
      responses.push(await this.#me(headers))
    const direct = this.#context.direct.map((target) => target.request(this.#login.mePath, { headers }))
    return [...responses, ...(await Promise.all(direct))]
  }

  /** Checks that forged credentials are rejected with 401, not with a server error. */
  async #forged(cookie: string | undefined, token: string | undefined): Promise<void> {
    const attempts = dictionary<Credentials>()
    if (cookie) attempts['a tampered cookie'] = { cookie: tampered(cookie) }
    if (token?.split('.').length === 3) {
      const [, payload = ''] = token.split('.')
      const none = Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')
      attempts['a tampered token'] = bearer(tampered(token))
      attempts['a token with `alg: none`'] = bearer(`${none}.${payload}.`)
    }
    const names = Object.keys(attempts)
    if (names.length === 0) return
    const statuses = await Promise.all(names.map(async (name) => (await this.#me(attempts[name] ?? {})).status))
    const wrong = names.flatMap((name, i) => (statuses[i] === 401 ? [] : [`${name} (${statuses[i]})`]))
    if (wrong.length === 0) this.#results.pass(`rejected with 401: ${names.join(', ')}`)
    else this.#results.fail(`not rejected with 401: ${wrong.join(', ')}`)
  }

  async #loggedOut(session: Credentials, token: string | undefined): Promise<void> {
    const { logoutPath } = this.#login
    const headers = { ...session, ...(token && bearer(token)) }
    const response = await this.#context.front.request(logoutPath, { method: 'POST', headers })
    if (!succeeded(response))
      return this.#results.skip(`POST ${logoutPath}: ${outcomes([response])}; the session remains until it expires`)
    const after = await this.#requestEveryInstance(session)
    const alive = after.filter(succeeded)
    if (alive.length === 0) this.#results.pass('after the logout every instance rejects the session')
    else this.#results.fail(`after the logout ${plural(alive.length, 'request')} of ${after.length} were accepted`)
    if (token !== undefined) await this.#tokenRevoked(bearer(token))
  }

  /** Polls until the revocation has reached every instance, or the time is up. */
  async #tokenRevoked(token: Credentials): Promise<void> {
    const deadline = performance.now() + revocationMs
    let late = false
    while ((await this.#requestEveryInstance(token)).some(succeeded)) {
      if (late) return this.#results.info('the token stays valid after the logout until it expires')
      await delay(Math.min(100, Math.max(0, deadline - performance.now())))
      late = performance.now() >= deadline
    }
    this.#results.pass(`every instance rejects the token within ${revocationMs / 1000} s of the logout`)
  }
}

const bearer = (token: string): Credentials => ({ authorization: `Bearer ${token}` })

/** Changes a character within the signature; decoders may ignore bits of the last one. */
function tampered(credential: string): string {
  const at = credential.length - 8
  return credential.slice(0, at) + (credential[at] === 'A' ? 'B' : 'A') + credential.slice(at + 1)
}

const tokenNames = ['accessToken', 'access_token', 'token', 'jwt']

/** The access token in the response of a login, at the top or one level below. */
function tokenOf(json: unknown): string | undefined {
  for (const from of [json, member(json, 'tokens'), member(json, 'data')]) {
    for (const name of tokenNames) {
      const token = member(from, name)
      if (typeof token === 'string') return token
    }
  }
  return undefined
}

/** The identifier of the user in the response. */
function userOf(json: unknown): string | undefined {
  for (const from of [member(json, 'user'), json]) {
    for (const name of ['email', 'username', 'id', 'sub', 'name']) {
      const value = member(from, name)
      if (typeof value === 'string' || typeof value === 'number') return String(value)
    }
  }
  return undefined
}
