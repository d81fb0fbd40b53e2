import { percentDecoded } from '../../base/percent.ts'
import { isForDevelopment } from './facts.ts'

/** The minimum that an instance accepts at startup. */
const minBytes = 32
const minPassword = 12
const signing = new Set(['FLEET_SECRET', 'SESSION_SECRET', 'JWT_SECRET', 'FLEET_ADMIN_TOKEN'])
/** Words of published examples and of password lists. */
const wellKnown =
  /change.?me|changeit|secret|passw(?:or)?d|example|default|your[-_ ]|keyboard.?cat|letmein|admin|qwerty|^(.)\1*$|^(?:postgres|redis|fleet|root|test|grafana)$/i

/** Why a secret of this file may not matter, for the `assumed` of a finding. */
export const secretDoubt = (file: string): string | undefined =>
  isForDevelopment(file) ? `${file.slice(file.lastIndexOf('/') + 1)} is deployed` : undefined

/** Why the value of a variable can be guessed, if it is a secret; never contains the value. */
export function weakness(name: string, value: string): string | undefined {
  if (signing.has(name)) {
    for (const one of value.split(',')) {
      if (Buffer.byteLength(one.trim()) < minBytes)
        return `${Buffer.byteLength(one.trim())} bytes, ${minBytes} are needed`
      if (wellKnown.test(one)) return 'it contains a common password'
    }
    return undefined
  }
  if (/PASSWORD$/.test(name) && !/_FILE$/.test(name)) return weakPassword(value)
  if (/(?:^|_)(?:URL|URLS)(?:_REPLICA_\d+)?$/.test(name)) {
    for (const url of value.split(',')) {
      const password = URL.parse(url.trim())?.password
      const problem = password ? weakPassword(percentDecoded(password) ?? password) : undefined
      if (problem) return problem
    }
  }
  return undefined
}

/** Settings such as MYSQL_RANDOM_ROOT_PASSWORD, paths of files, and placeholders that another program fills in. */
const noPassword = /^(?:true|false|yes|no|on|off|[01])$|^\/[\w.-]+\/|^<[^>]+>$|\{\{|\$\(/i

function weakPassword(value: string): string | undefined {
  if (noPassword.test(value)) return undefined
  if (wellKnown.test(value)) return 'a common password'
  return value.length < minPassword ? `${value.length} characters, use ${minPassword} or more` : undefined
}
