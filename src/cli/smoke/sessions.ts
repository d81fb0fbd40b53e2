import { setTimeout as delay } from 'node:timers/promises'
import { dictionary } from '../../base/dictionary.ts'
import { type Answer, member } from '../target.ts'
import { type Finding, Findings } from './report.ts'
import { byName, outcomes, plural, rounds, type Setting, succeeded, wanted } from './setting.ts'

/** How to log in, and where an answer tells who one is. */
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
export async function sessions(setting: Setting, login: Login, demanded: boolean): Promise<readonly Finding[]> {
  const findings = new Findings('sessions')
  const { front } = setting
  const body = { email: login.user, password: login.password }
  const answer = await front.ask(login.loginPath, { method: 'POST', body })
  if (!succeeded(answer)) {
    refused(answer, login, demanded, findings)
    return findings.list
  }
  const stranger = await front.ask(login.mePath)
  if (stranger.status === 401) findings.pass(`${login.mePath} without a login: 401`)
  else findings.fail(`${login.mePath} without a login: ${outcomes([stranger])}; it should be 401`)

  const cookie = await sessionCookie(answer, setting, login)
  const token = tokenOf(answer.json)
  if (cookie === undefined) findings.skip('the login sets no cookie that tells who one is')
  else await valid('session', { cookie }, setting, login, findings)
  if (token === undefined) findings.skip('the login gives no token')
  else await valid('token', { authorization: `Bearer ${token}` }, setting, login, findings)
  await forged(cookie, token, setting, login, findings)
  if (cookie !== undefined) await loggedOut({ cookie }, token, setting, login, findings)
  return findings.list
}

function refused(answer: Answer, { loginPath, user }: Login, demanded: boolean, findings: Findings): void {
  const text = `POST ${loginPath}: ${outcomes([answer])}`
  if (answer.status === 404 && !demanded) findings.skip(`${text}; there is no login to test`, 'give --login-path')
  else if (answer.status === 404) findings.fail(text, 'give --login-path')
  else if (answer.status === 429) findings.fail(text, 'the front limits logins; try again later')
  else findings.fail(`${text} as ${user}`, 'give --user and --password of an account')
}

/**
 * Of the cookies of the login the one that alone tells who one is: a front may add one of its own to be sticky. Asked
 * more than once, because only one instance may know the session, which is what this test is to find out.
 */
async function sessionCookie(answer: Answer, setting: Setting, { mePath }: Login): Promise<string | undefined> {
  for (let i = 0; i < rounds(wanted(setting)); i++) {
    for (const cookie of answer.cookies) {
      if (succeeded(await setting.front.ask(mePath, { headers: { cookie } }))) return cookie
    }
  }
  return undefined
}

/** The same user on every instance, and through each direct address. */
async function valid(
  kind: string,
  headers: Credentials,
  setting: Setting,
  login: Login,
  findings: Findings,
): Promise<void> {
  const answers = await askEveryone(headers, setting, login)
  const wrong = answers.filter((answer) => !succeeded(answer))
  const users = new Set(answers.filter(succeeded).map(({ json }) => userOf(json)))
  const ids = [...new Set(answers.map(({ instanceId }) => instanceId))].filter((id) => id !== undefined).sort(byName)
  const needed = wanted(setting)
  if (wrong.length > 0) {
    const where = [...new Set(wrong.map(({ instanceId }) => instanceId ?? 'the front'))].join(', ')
    findings.fail(
      `the ${kind} was refused by ${where}: ${wrong.length} of ${answers.length} (${outcomes(wrong)})`,
      `give each instance the same secrets and the same REDIS_URL`,
    )
  } else if (users.size !== 1 || users.has(undefined)) {
    findings.fail(`the ${kind} is not the same user everywhere: ${[...users].map(String).join(', ')}`)
  } else if (ids.length < needed) {
    findings.skip(
      `the ${kind} reached ${ids.length} of ${needed} instances in ${plural(answers.length, 'request')}`,
      'the front is sticky: give the address of each instance (--instance)',
    )
  } else findings.pass(`the ${kind} is ${[...users][0]} on ${plural(ids.length, 'instance')}: ${ids.join(', ')}`)
}

/** Asks who one is over separate connections until enough instances have answered, then each direct address. */
async function askEveryone(
  headers: Credentials,
  { front, direct, ...setting }: Setting,
  login: Login,
): Promise<Answer[]> {
  const answers: Answer[] = []
  const seen = new Set<string>()
  const needed = wanted({ front, direct, ...setting })
  for (let i = 0; i < rounds(needed) && seen.size < needed; i++) {
    const answer = await front.ask(login.mePath, { headers })
    answers.push(answer)
    if (answer.instanceId) seen.add(answer.instanceId)
  }
  return [...answers, ...(await Promise.all(direct.map((target) => target.ask(login.mePath, { headers }))))]
}

/** Credentials that were tampered with are refused with 401, never with an error of the server. */
async function forged(
  cookie: string | undefined,
  token: string | undefined,
  { front }: Setting,
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
  const answers = await Promise.all(names.map((name) => front.ask(mePath, { headers: attempts[name] })))
  const wrong = names.filter((_, i) => answers[i]?.status !== 401)
  if (wrong.length === 0) findings.pass(`refused with 401: ${names.join(', ')}`)
  else
    findings.fail(
      `not refused with 401: ${wrong.map((name) => `${name} (${answers[names.indexOf(name)]?.status})`).join(', ')}`,
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
  setting: Setting,
  login: Login,
  findings: Findings,
): Promise<void> {
  const authorization: Credentials = token ? { authorization: `Bearer ${token}` } : {}
  const answer = await setting.front.ask(login.logoutPath, {
    method: 'POST',
    headers: { ...session, ...authorization },
  })
  if (!succeeded(answer)) {
    findings.skip(`POST ${login.logoutPath}: ${outcomes([answer])}; the session was left to expire`)
    return
  }
  const after = await askEveryone(session, setting, login)
  const alive = after.filter(succeeded)
  if (alive.length === 0) findings.pass('after the logout the session is refused everywhere at once')
  else findings.fail(`after the logout ${plural(alive.length, 'request')} of ${after.length} still passed`)
  if (token !== undefined) await tokenRevoked(authorization, setting, login, findings)
}

/** A revocation travels to the other instances; so they are asked until the last one knows, or the time is up. */
async function tokenRevoked(token: Credentials, setting: Setting, login: Login, findings: Findings): Promise<void> {
  const deadline = performance.now() + revocationMs
  let late = false
  while ((await askEveryone(token, setting, login)).some(succeeded)) {
    if (late) return findings.info('the token outlives the logout, until it expires')
    await delay(Math.min(100, Math.max(0, deadline - performance.now())))
    late = performance.now() >= deadline
  }
  findings.pass(`the token is refused everywhere within ${revocationMs / 1000} s of the logout`)
}

const tokenNames = ['accessToken', 'access_token', 'token', 'jwt']

/** The access token of a login's answer, at the top or one level below. */
function tokenOf(json: unknown): string | undefined {
  for (const from of [json, member(json, 'tokens'), member(json, 'data')]) {
    for (const name of tokenNames) {
      const token = member(from, name)
      if (typeof token === 'string') return token
    }
  }
  return undefined
}

/** Who one is, by whatever the answer identifies users with. */
function userOf(json: unknown): string | undefined {
  for (const from of [member(json, 'user'), json]) {
    for (const name of ['email', 'username', 'id', 'sub', 'name']) {
      const value = member(from, name)
      if (typeof value === 'string' || typeof value === 'number') return String(value)
    }
  }
  return undefined
}
