import { join } from 'node:path'
import { readRegular } from '../../base/regular-file.ts'
import { type Change, newFile } from './change.ts'

const file = '.env.example'

/** Variables of an instance, each with its comment. `#` before a name: only with a value of yours. */
const variables: readonly (readonly [line: string, comment: string])[] = [
  ['PORT=3000', 'Address of this instance; 0.0.0.0 accepts connections of other machines'],
  ['HOST=127.0.0.1', ''],
  ['# REDIS_URL=redis://127.0.0.1:6379', 'State that all instances share; required in production'],
  ['# SESSION_SECRET=', 'Signs session cookies; required in production, for example from `openssl rand -hex 32`'],
  [
    '# FLEET_ADMIN_TOKEN=',
    'Token of operators for the dashboard and `fleet ps`, for example from `openssl rand -hex 32`',
  ],
  ['# TRUST_PROXY=loopback', 'The load balancer, which may name the client: its address, or loopback, uniquelocal'],
  ['# LOG_LEVEL=info', 'fatal, error, warn, info, debug, trace or silent'],
]

const nameOf = (line: string): string => /^#?\s*(?:export\s+)?(\w+)\s*=/.exec(line)?.[1] ?? ''

/** Creates the file, or adds the variables that it does not have. */
export function environmentChange(folder: string): Change | undefined {
  const before = readRegular(join(folder, file), false)
  const present = new Set(before?.split('\n').map((line) => nameOf(line.trim())))
  const missing = variables.filter(([line]) => !present.has(nameOf(line)))
  if (missing.length === 0) return undefined
  const text = missing.map(([line, comment]) => (comment === '' ? line : `# ${comment}\n${line}`)).join('\n')
  if (before === undefined)
    return newFile(file, `# For \`node --env-file=.env\`. \`fleet up\` sets what it needs itself.\n${text}\n`)
  const gap = before === '' || before.endsWith('\n') ? '\n' : '\n\n'
  const eol = before.includes('\r\n') ? '\r\n' : '\n'
  const start = before.length
  return { file, before, edits: [{ start, end: start, text: `${gap}${text}\n`.replaceAll('\n', eol) }] }
}
