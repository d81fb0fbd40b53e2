import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { FleetError } from '../../base/errors.ts'
import type { Output } from '../output.ts'
import { aptPackages, canInstall, installCommand, type Program } from './install.ts'

/**
 * Whether missing programs may be installed: with `allowed`, or after a yes on a terminal if this process can install them.
 *
 * @throws FLEET_ERR_PROGRAM_MISSING with the commands if they may not
 */
export async function mayInstall(missing: readonly Program[], allowed: boolean, out: Output): Promise<boolean> {
  if (allowed || missing.length === 0) return allowed
  const names = missing.map(({ title }) => title).join(', ')
  const question = `${names}: not installed. Install with \`apt-get install ${aptPackages(missing).join(' ')}\` now? [y/N]`
  const isPossible = await canInstall()
  if (isPossible && canAsk(out) && (await isYes(question, out))) return true
  const fixes = [
    `${installCommand(missing)}${isPossible ? ', or let `--install` do it' : ''}`,
    ...missing.flatMap(({ instead }) => (instead === undefined ? [] : [`or ${instead}`])),
  ]
  throw new FleetError('FLEET_ERR_PROGRAM_MISSING', `${names}: not installed; ${fixes.join('; ')}`)
}

/** Whether a person sees a question and can reply. */
export const canAsk = (out: Output): boolean => process.stdin.isTTY === true && out.interactive

/** The terminal edits the line, so that Ctrl-C ends this process as usual. */
export async function isYes(question: string, out: Output): Promise<boolean> {
  out.note(question)
  const lines = createInterface({ input: process.stdin })
  const line = await Promise.race([
    once(lines, 'line').then(([text]) => String(text)),
    once(lines, 'close').then(() => ''),
  ])
  lines.close()
  return /^\s*y(es)?\s*$/i.test(line)
}
