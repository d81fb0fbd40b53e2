import { setTimeout as delay } from 'node:timers/promises'
import { dictionary } from '../../base/dictionary.ts'
import { member, type TargetResponse } from '../target.ts'
import { byName, type CheckContext, outcomes, plural, rounds, succeeded, wanted } from './context.ts'
import { type Finding, Findings } from './report.ts'

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

/**
 * Checks that a login is valid on every instance, as cookie and as token; that forged credentials are rejected; and that a
 * logout is valid on every instance.
 *
 * @param required whether an application without a login fails the test
 */
export async function sessions(context: CheckContext, login: Login, required: boolean): Promise<readonly Finding[]> {
  const findings = new Findings('sessions')
  const { front } = context
  const body = { email: login.user, password: login.password }
  const response = await front.request(login.loginPath, { method: 'POST', body })
  if (!succeeded(response)) {
    loginRejected(response, login, required, findings)
    return findings.list
  }
  const anonymous = await front.request(login.mePath)
  if (anonymous.status === 401) findings.pass(`${login.mePath} without a login: 401`)
  else findings.fail(`${login.mePath} without a login: ${outcomes([anonymous])}; it should be 401`)

  const cookie = await sessionCookie(response, context, login)
  const token = tokenOf(response.json)
  if (cookie === undefined) findings.skip('the login sets no session cookie')
  else await valid('session', { cookie }, context, login, findings)
  if (token === undefined) findings.skip('the login returns no token')
  else await valid('token', { authorization: `Bearer ${token}` }, context, login, findings)
  await forged(cookie, token, context, login, findings)
  if (cookie !== undefined) await loggedOut({ cookie }, token, context, login, findings)
  return findings.list
}

function loginRejected(
  response: TargetResponse,
  { loginPath, user }: Login,
  required: boolean,
  findings: Findings,
): void {
  const text = `POST ${loginPath}: ${outcomes([response])}`
  if (response.status === 404 && !required) findings.skip(`${text}; no login to test`, 'pass --login-path')
  else if (response.status === 404) findings.fail(text, 'pass --login-path')
  else if (response.status === 429) findings.fail(text, 'the front limits logins; try again later')
  else findings.fail(`${text} as ${user}`, 'pass --user and --password of an account')
}

/**
 * Finds the cookie of the login that identifies the user, because a front may add a cookie for stickiness. Several attempts are needed
 * when only one instance knows the session.
 */
async function sessionCookie(
  response: TargetResponse,
  context: CheckContext,
  { mePath }: Login,
): Promise<string | undefined> {
  for (let i = 0; i < rounds(wanted(context)); i++) {
    for (const cookie of response.cookies) {
      if (succeeded(await context.front.request(mePath, { headers: { cookie } }))) return cookie
    }
  }
  return undefined
}

/** Checks that the credentials are valid for the same user on every instance and direct address. */
async function valid(
  kind: string,
  headers: Credentials,
  context: CheckContext,
  login: Login,
  findings: Findings,
): Promise<void> {
  const responses = await requestEveryInstance(headers, context, login)
  const wrong = responses.filter((response) => !succeeded(response))
  const users = new Set(responses.filter(succeeded).map(({ json }) => userOf(json)))
  const ids = [...new Set(responses.map(({ instanceId }) => instanceId))].filter((id) => id !== undefined).sort(byName)
  const needed = wanted(context)
  if (wrong.length > 0) {
    const where = [...new Set(wrong.map(({ instanceId }) => instanceId ?? 'the front'))].join(', ')
    findings.fail(
      `the ${kind} was rejected by ${where}: ${wrong.length} of ${responses.length} (${outcomes(wrong)})`,
      `set the same secrets and REDIS_URL on each instance`,
    )
  } else if (users.size !== 1 || users.has(undefined)) {
    findings.fail(`the ${kind} is not the same user everywhere: ${[...users].map(String).join(', ')}`)
  } else if (ids.length < needed) {
    findings.skip(
      `the ${kind} reached ${ids.length} of ${needed} instances in ${plural(responses.length, 'request')}`,
      'the front is sticky: pass the address of each instance (--instance)',
    )
  } else findings.pass(`the ${kind} is ${[...users][0]} on ${plural(ids.length, 'instance')}: ${ids.join(', ')}`)
}

/** Requests the user over new connections until enough instances have responded, then from each direct address. */
async function requestEveryInstance(
  headers: Credentials,
  { front, direct, ...context }: CheckContext,
  login: Login,
): Promise<TargetResponse[]> {
  const responses: TargetResponse[] = []
  const seen = new Set<string>()
  const needed = wanted({ front, direct, ...context })
  for (let i = 0; i < rounds(needed) && seen.size < needed; i++) {
    const response = await front.request(login.mePath, { headers })
    responses.push(response)
    if (response.instanceId) seen.add(response.instanceId)
  }
  return [...responses, ...(await Promise.all(direct.map((target) => target.request(login.mePath, { headers }))))]
}

/** Checks that forged credentials are rejected with 401, not with a server error. */
async function forged(
  cookie: string | undefined,
  token: string | undefined,
  { front }: CheckContext,
  { mePath }: Login,
  findings: Findings,
): Promise<void> {
  const attempts = dictionary<Credentials>()
  if (cookie) attempts['a tampered cookie'] = { cookie: tampered(cookie) }
  if (token?.split('.').length === 3) {
    const [, payload = ''] = token.split('.')
    const none = Buffer.from('{"alg":"none","typ":"JWT"}').toString('base64url')
    attempts['a tampered token'] = { authorization: `Bearer ${tampered(token)}` }
    attempts['a token with `alg: none`'] = { authorization: `Bearer ${none}.${payload}.` }
  }
  const names = Object.keys(attempts)
  if (names.length === 0) return
  const responses = await Promise.all(names.map((name) => front.request(mePath, { headers: attempts[name] })))
  const wrong = names.filter((_, i) => responses[i]?.status !== 401)
  if (wrong.length === 0) findings.pass(`rejected with 401: ${names.join(', ')}`)
  else
    findings.fail(
      `not rejected with 401: ${wrong.map((name) => `${name} (${responses[names.indexOf(name)]?.status})`).join(', ')}`,
    )
}

/** Changes a character within the signature; decoders may ignore bits of the last one. */
function tampered(credential: string): string {
  const at = credential.length - 8
  return credential.slice(0, at) + (credential[at] === 'A' ? 'B' : 'A') + credential.slice(at + 1)
}

async function loggedOut(
  session: Credentials,
  token: string | undefined,
  context: CheckContext,
  login: Login,
  findings: Findings,
): Promise<void> {
  const authorization: Credentials = token ? { authorization: `Bearer ${token}` } : {}
  const response = await context.front.request(login.logoutPath, {
    method: 'POST',
    headers: { ...session, ...authorization },
  })
  if (!succeeded(response)) {
    findings.skip(`POST ${login.logoutPath}: ${outcomes([response])}; the session remains until it expires`)
    return
  }
  const after = await requestEveryInstance(session, context, login)
  const alive = after.filter(succeeded)
  if (alive.length === 0) findings.pass('after the logout every instance rejects the session')
  else findings.fail(`after the logout ${plural(alive.length, 'request')} of ${after.length} were accepted`)
  if (token !== undefined) await tokenRevoked(authorization, context, login, findings)
}

/** Polls until the revocation has reached every instance, or the time is up. */
async function tokenRevoked(
  token: Credentials,
  context: CheckContext,
  login: Login,
  findings: Findings,
): Promise<void> {
  const deadline = performance.now() + revocationMs
  let late = false
  while ((await requestEveryInstance(token, context, login)).some(succeeded)) {
    if (late) return findings.info('the token stays valid after the logout until it expires')
    await delay(Math.min(100, Math.max(0, deadline - performance.now())))
    late = performance.now() >= deadline
  }
  findings.pass(`every instance rejects the token within ${revocationMs / 1000} s of the logout`)
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
