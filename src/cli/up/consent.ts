import { once } from 'node:events'
import { createInterface } from 'node:readline'
import { FleetError } from '../../base/errors.ts'
import type { Output } from '../output.ts'
import { aptPackages, installCommand, type Program } from './install.ts'

/**
 * Whether missing programs may be installed: with `allowed`, or after a yes on a terminal.
 *
 * @throws FLEET_ERR_PROGRAM_MISSING with the commands if they may not
 */
export async function mayInstall(missing: readonly Program[], allowed: boolean, out: Output): Promise<boolean> {
  if (allowed || missing.length === 0) return allowed
  const names = missing.map(({ title }) => title).join(', ')
  const question = `${names}: not installed. Install with \`apt-get install ${aptPackages(missing).join(' ')}\` now? [y/N]`
  if (canAsk(out) && (await isYes(question, out))) return true
  const detail = `${names}: not installed; ${installCommand(missing)}, or let \`--install\` do it`
  throw new FleetError('FLEET_ERR_PROGRAM_MISSING', `${detail}; to do without, see --without and --front`)
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
