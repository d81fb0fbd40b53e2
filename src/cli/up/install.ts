import { FleetError } from '../../base/errors.ts'
import { launch } from './child.ts'
import { findProgram } from './find.ts'

/** An external program: how to find and install it. */
export interface Program {
  readonly title: string
  readonly names: readonly string[]
  readonly folders?: readonly string[]
  readonly apt: readonly string[]
  readonly brew: string
  /** The option of `fleet up` that does without it, and what then happens. */
  readonly instead?: string
  /** Whether an installed program has all required parts. @default true */
  complete?(path: string): boolean
}

export interface ProvideOptions {
  /** Path of the program. @default found or installed */
  program?: string
  /** Install a missing program with the package manager. @default true */
  install?: boolean
  /** Called with a message before a slow step. */
  onProgress?: (line: string) => void
}

/**
 * Finds a program, or installs it with apt as root or with password-less `sudo`.
 *
 * @throws FLEET_ERR_PROGRAM_MISSING with the command that installs it
 */
export async function provide(program: Program, options: ProvideOptions = {}): Promise<string> {
  const found = options.program ?? findComplete(program)
  if (found) return found
  const failure = options.install === false ? 'it is not installed' : await install(program, options.onProgress)
  const installed = findComplete(program)
  if (installed) return installed
  throw new FleetError('FLEET_ERR_PROGRAM_MISSING', `${program.title}: ${failure}; ${installCommand([program])}`)
}

export const isInstalled = (program: Program): boolean => findComplete(program) !== undefined

/** Whether `provide` can install programs here. */
export const canInstall = async (): Promise<boolean> =>
  findProgram(['apt-get']) !== undefined && (process.getuid?.() === 0 || (await maySudo()))

/** How a person installs the programs. */
export function installCommand(programs: readonly Program[]): string {
  const apt = aptPackages(programs).join(' ')
  const brew = programs.map((program) => program.brew).join(' ')
  return `install ${programs.length === 1 ? 'it' : 'them'} with \`sudo apt-get install ${apt}\` or \`brew install ${brew}\``
}

export const aptPackages = (programs: readonly Program[]): string[] => programs.flatMap(({ apt }) => apt)

function findComplete({ names, folders, complete }: Program): string | undefined {
  const found = findProgram(names, folders)
  return found !== undefined && (complete?.(found) ?? true) ? found : undefined
}

/**
 * Installs packages without starting their services, and leaves the rest of the machine alone. Nothing has to be undone if it is
 * killed: only its environment asks for that, SYSTEMD_OFFLINE under systemd, the run level under System V init. New services
 * are disabled for the next boot. The lock serialises concurrent installations; the kernel releases it when its owner dies.
 */
const installScript = `
set -eu
# dpkg requires the PATH of root.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec 9>/run/fastify-fleet-install.lock
flock 9
log=$(mktemp)
trap 'rm -f "$log"' EXIT
trap 'exit 1' INT TERM HUP PIPE
# Version 0.1 wrote policy-rc.d; a run that was killed left it behind.
policy=/usr/sbin/policy-rc.d
if grep -qs '^# fastify-fleet installs' "$policy"; then rm "$policy"; fi
if [ -e "$policy.fastify-fleet" ]; then mv "$policy.fastify-fleet" "$policy"; fi

missing=
for package; do
  dpkg-query -W -f '\${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ "$missing" ] || exit 0

export DEBIAN_FRONTEND=noninteractive
# Output goes to a file, because the caller may exit first.
get() { apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1 9>&- </dev/null; }
add() {
  SYSTEMD_OFFLINE=1 RUNLEVEL=1 PREVLEVEL=1 NEEDRESTART_SUSPEND=1 get install --yes --no-install-recommends $missing
}
# The first attempt fails with missing or old package lists.
add || { get update && add; } || { tail -n 3 "$log" >&2; exit 1; }
! [ -d /run/systemd/system ] || systemctl disable --quiet $missing 2>/dev/null || true
`

/** @returns the reason if the program is still missing */
async function install(program: Program, onProgress?: (line: string) => void): Promise<string> {
  if (!findProgram(['apt-get'])) return 'it is not installed, and there is no apt-get'
  const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n']
  if (asRoot.length > 0 && !(await maySudo())) return 'it is not installed, and only root may install it'
  onProgress?.(`installing ${program.title} with apt-get (once)`)
  const [command = '', ...args] = [...asRoot, '/bin/sh', '-c', installScript, 'install', ...program.apt]
  const child = launch(command, args, { uninterrupted: true })
  const { code } = await child.exit
  return code === 0 ? 'apt-get installed it, but it was not found' : `apt-get failed: ${lastLine(child.stderr)}`
}

async function maySudo(): Promise<boolean> {
  if (!findProgram(['sudo'])) return false
  return (await launch('sudo', ['-n', 'true']).exit).code === 0
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? ''
