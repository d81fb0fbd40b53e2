import { setTimeout as delay } from 'node:timers/promises'
import { dictionary } from '../../base/dictionary.ts'
import { member, type TargetResponse } from '../target.ts'
import { byName, type CheckContext, outcomes, plural, rounds, succeeded, wanted } from './context.ts'
import { type Finding, Findings } from './report.ts'

/** How to log in, and where an response tells who one is. */
export interface Login {
  readonly user: string
  readonly password: string
  readonly loginPath: string
  readonly mePath: string
  readonly logoutPath: string
}

type Credentials = Record<string, string>

/** How long a revocation may take to be in force everywhere, ms. */
const revocationMs = 1_000

/**
 * Is a login made through the front valid on every instance, as cookie and as token; is a forged one refused; and is a
 * logout in force everywhere?
 *
 * @param demanded whether an application without a login fails the test
 */
export async function sessions(context: CheckContext, login: Login, demanded: boolean): Promise<readonly Finding[]> {
  const findings = new Findings('sessions')
  const { front } = context
  const body = { email: login.user, password: login.password }
  const response = await front.request(login.loginPath, { method: 'POST', body })
  if (!succeeded(response)) {
    refused(response, login, demanded, findings)
    return findings.list
  }
  const stranger = await front.request(login.mePath)
  if (stranger.status === 401) findings.pass(`${login.mePath} without a login: 401`)
  else findings.fail(`${login.mePath} without a login: ${outcomes([stranger])}; it should be 401`)

  const cookie = await sessionCookie(response, context, login)
  const token = tokenOf(response.json)
  if (cookie === undefined) findings.skip('the login sets no cookie that tells who one is')
  else await valid('session', { cookie }, context, login, findings)
  if (token === undefined) findings.skip('the login gives no token')
  else await valid('token', { authorization: `Bearer ${token}` }, context, login, findings)
  await forged(cookie, token, context, login, findings)
  if (cookie !== undefined) await loggedOut({ cookie }, token, context, login, findings)
  return findings.list
}

function refused(response: TargetResponse, { loginPath, user }: Login, demanded: boolean, findings: Findings): void {
  const text = `POST ${loginPath}: ${outcomes([response])}`
  if (response.status === 404 && !demanded) findings.skip(`${text}; there is no login to test`, 'give --login-path')
  else if (response.status === 404) findings.fail(text, 'give --login-path')
  else if (response.status === 429) findings.fail(text, 'the front limits logins; try again later')
  else findings.fail(`${text} as ${user}`, 'give --user and --password of an account')
}

/**
 * Of the cookies of the login the one that alone tells who one is: a front may add one of its own to be sticky. Asked
 * more than once, because only one instance may know the session, which is what this test is to find out.
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

/** The same user on every instance, and through each direct address. */
async function valid(
  kind: string,
  headers: Credentials,
  context: CheckContext,
  login: Login,
  findings: Findings,
): Promise<void> {
  const responses = await askEveryone(headers, context, login)
  const wrong = responses.filter((response) => !succeeded(response))
  const users = new Set(responses.filter(succeeded).map(({ json }) => userOf(json)))
  const ids = [...new Set(responses.map(({ instanceId }) => instanceId))].filter((id) => id !== undefined).sort(byName)
  const needed = wanted(context)
  if (wrong.length > 0) {
    const where = [...new Set(wrong.map(({ instanceId }) => instanceId ?? 'the front'))].join(', ')
    findings.fail(
      `the ${kind} was refused by ${where}: ${wrong.length} of ${responses.length} (${outcomes(wrong)})`,
      `give each instance the same secrets and the same REDIS_URL`,
    )
  } else if (users.size !== 1 || users.has(undefined)) {
    findings.fail(`the ${kind} is not the same user everywhere: ${[...users].map(String).join(', ')}`)
  } else if (ids.length < needed) {
    findings.skip(
      `the ${kind} reached ${ids.length} of ${needed} instances in ${plural(responses.length, 'request')}`,
      'the front is sticky: give the address of each instance (--instance)',
    )
  } else findings.pass(`the ${kind} is ${[...users][0]} on ${plural(ids.length, 'instance')}: ${ids.join(', ')}`)
}

/** Asks who one is over separate connections until enough instances have answered, then each direct address. */
async function askEveryone(
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

/** Credentials that were tampered with are refused with 401, never with an error of the server. */
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
  if (wrong.length === 0) findings.pass(`refused with 401: ${names.join(', ')}`)
  else
    findings.fail(
      `not refused with 401: ${wrong.map((name) => `${name} (${responses[names.indexOf(name)]?.status})`).join(', ')}`,
    )
}

/** A character in the middle of the signature changed: the last one may carry bits that decoders ignore. */
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
    findings.skip(`POST ${login.logoutPath}: ${outcomes([response])}; the session was left to expire`)
    return
  }
  const after = await askEveryone(session, context, login)
  const alive = after.filter(succeeded)
  if (alive.length === 0) findings.pass('after the logout the session is refused everywhere at once')
  else findings.fail(`after the logout ${plural(alive.length, 'request')} of ${after.length} still passed`)
  if (token !== undefined) await tokenRevoked(authorization, context, login, findings)
}

/** A revocation travels to the other instances; so they are asked until the last one knows, or the time is up. */
async function tokenRevoked(
  token: Credentials,
  context: CheckContext,
  login: Login,
  findings: Findings,
): Promise<void> {
  const deadline = performance.now() + revocationMs
  let late = false
  while ((await askEveryone(token, context, login)).some(succeeded)) {
    if (late) return findings.info('the token outlives the logout, until it expires')
    await delay(Math.min(100, Math.max(0, deadline - performance.now())))
    late = performance.now() >= deadline
  }
  findings.pass(`the token is refused everywhere within ${revocationMs / 1000} s of the logout`)
}

const tokenNames = ['accessToken', 'access_token', 'token', 'jwt']

/** The access token of a login's response, at the top or one level below. */
function tokenOf(json: unknown): string | undefined {
  for (const from of [json, member(json, 'tokens'), member(json, 'data')]) {
    for (const name of tokenNames) {
      const token = member(from, name)
      if (typeof token === 'string') return token
    }
  }
  return undefined
}

/** Who one is, by whatever the response identifies users with. */
function userOf(json: unknown): string | undefined {
  for (const from of [member(json, 'user'), json]) {
    for (const name of ['email', 'username', 'id', 'sub', 'name']) {
      const value = member(from, name)
      if (typeof value === 'string' || typeof value === 'number') return String(value)
    }
  }
  return undefined
}
