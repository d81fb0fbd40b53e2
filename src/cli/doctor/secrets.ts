import { percentDecoded } from '../../base/percent.ts'
import type { Variable } from './facts.ts'

/** Bytes the instance asks for at its start. */
const leastBytes = 32
const leastPassword = 12
const signing = new Set(['FLEET_SECRET', 'SESSION_SECRET', 'JWT_SECRET', 'FLEET_ADMIN_TOKEN'])
/** What examples on the web have, and nobody changes. */
const wellKnown =
  /change.?me|changeit|secret|passw(?:or)?d|example|default|your[-_ ]|keyboard.?cat|letmein|admin|qwerty|^(.)\1*$|^(?:postgres|redis|fleet|root|test|grafana)$/i

export interface WeakSecret {
  readonly place: Variable
  readonly detail: string
}

/** Secrets that stand in a file and can be guessed. What is said of one never holds its value. */
export function weakSecrets(env: ReadonlyMap<string, Variable>): WeakSecret[] {
  return [...env].flatMap(([name, place]) => {
    const problem = place.value ? weakness(name, place.value) : undefined
    return problem ? [{ place, detail: `${name}: ${problem}` }] : []
  })
}

function weakness(name: string, value: string): string | undefined {
  if (signing.has(name)) {
    for (const one of value.split(',')) {
      if (Buffer.byteLength(one.trim()) < leastBytes)
        return `${Buffer.byteLength(one.trim())} bytes, ${leastBytes} are needed`
      if (wellKnown.test(one)) return 'it holds a word that everybody tries'
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

function weakPassword(value: string): string | undefined {
  if (wellKnown.test(value)) return 'a password that everybody tries'
  return value.length < leastPassword ? `${value.length} characters, take ${leastPassword} or more` : undefined
}
