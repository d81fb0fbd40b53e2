import { type Fact, type InstanceFacts, lineAt, type Reader, type Reading, violation } from '../facts.ts'

const milliseconds = (text: string, name: string, file: string): Fact<number> | undefined => {
  const match = new RegExp(`\\b${name}\\s*:\\s*([\\d_]+)`).exec(text)
  if (!match) return undefined
  return { value: Number(match[1]?.replaceAll('_', '')), file, line: lineAt(text, match.index) }
}

/** Numeric options in code that creates a Fastify app or imports this package; computed values are skipped. */
export const readApp: Reader = (sources) => sources.flatMap(readOne)

function readOne({ file, text }: { file: string; text: string }): readonly Reading[] {
  if (!/\bfastify\s*\(|['"]fastify-fleet['"/]/i.test(text)) return []
  const readings: Reading[] = []
  const trusting = /\btrustProxy\s*:\s*true\b/.exec(text)
  if (trusting) readings.push(violation('DOCTOR_TRUST_EVERYONE', { file, line: lineAt(text, trusting.index) }))
  const env = new Map<string, Fact<string>>()
  for (const [option, name] of [
    ['shutdownTimeoutMs', 'SHUTDOWN_TIMEOUT'],
    ['drainDelayMs', 'DRAIN_DELAY'],
  ] as const) {
    const fact = milliseconds(text, option, file)
    if (fact) env.set(name, { ...fact, value: String(fact.value) })
  }
  const keepAliveMs = milliseconds(text, 'keepAliveTimeout', file)
  if (env.size > 0 || keepAliveMs) {
    const line = keepAliveMs?.line ?? [...env.values()][0]?.line ?? 1
    const app: InstanceFacts = {
      role: 'instance',
      source: 'app',
      name: file,
      file,
      line,
      env,
      unseen: 'any',
      keepAliveMs,
    }
    readings.push(app)
  }
  return readings
}
