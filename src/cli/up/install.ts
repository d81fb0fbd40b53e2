import { FleetError } from '../../base/errors.ts'
import { launch } from './child.ts'
import { findProgram } from './find.ts'

/** A program of another project that this one runs: how to find it, and who installs it when it is not there. */
export interface Program {
  readonly title: string
  readonly names: readonly string[]
  readonly folders?: readonly string[]
  readonly apt: readonly string[]
  readonly brew: string
  /** Whether a program that was found has every part that is needed. @default it has */
  complete?(path: string): boolean
}

export interface ProvideOptions {
  /** Path of the program. @default the one that is found, or else installed */
  program?: string
  /** Let the package manager install what is missing. @default true */
  install?: boolean
  /** Called with a line for people when something takes time. */
  onProgress?: (line: string) => void
}

/**
 * The path of a program: found, or else installed by apt when this process may (root, or `sudo` without a password).
 *
 * @throws FLEET_ERR_PROGRAM_MISSING with the command that installs it
 */
export async function provide(program: Program, options: ProvideOptions = {}): Promise<string> {
  const found = options.program ?? findComplete(program)
  if (found) return found
  const failure = options.install === false ? 'it is not installed' : await install(program, options.onProgress)
  const installed = findComplete(program)
  if (installed) return installed
  const fix = `\`sudo apt-get install ${program.apt.join(' ')}\` or \`brew install ${program.brew}\``
  throw new FleetError('FLEET_ERR_PROGRAM_MISSING', `${program.title}: ${failure}; install it with ${fix}`)
}

function findComplete({ names, folders, complete }: Program): string | undefined {
  const found = findProgram(names, folders)
  return found !== undefined && (complete?.(found) ?? true) ? found : undefined
}

/**
 * Installs packages without letting Debian start them: `policy-rc.d` refuses while they are set up, and their services,
 * where they are new, are taken out of the next boot. The lock makes processes that want the same thing at once wait for each
 * other (the second then has nothing left to do); the kernel drops it when its holder dies.
 */
const installScript = `
set -eu
# dpkg insists on the folders of root.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
exec 9>/run/fastify-fleet-install.lock
flock 9
policy=/usr/sbin/policy-rc.d
kept=$policy.fastify-fleet
restore() {
  rm -f "$policy"
  [ ! -e "$kept" ] || mv -f "$kept" "$policy"
}
log=$(mktemp)
trap 'restore; rm -f "$log"' EXIT
trap 'exit 1' INT TERM HUP PIPE
# One of ours is there when an earlier run was killed.
! grep -qs fastify-fleet "$policy" || rm "$policy"
[ -e "$kept" ] || [ ! -e "$policy" ] || mv "$policy" "$kept"
printf '#!/bin/sh\\n# fastify-fleet installs\\nexit 101\\n' > "$policy"
chmod 755 "$policy"

missing=
for package; do
  dpkg-query -W -f '\${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed || missing="$missing $package"
done
[ "$missing" ] || exit 0

export DEBIAN_FRONTEND=noninteractive
# Into a file: who asked for the installation may be gone before it is done.
get() { apt-get -qq -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 "$@" >"$log" 2>&1 9>&- </dev/null; }
add() { get install --yes --no-install-recommends $missing; }
# Lists that are missing or old make the first try fail.
add || { get update && add; } || { tail -n 3 "$log" >&2; exit 1; }
! [ -d /run/systemd/system ] || systemctl disable --quiet $missing 2>/dev/null || true
`

/** @returns why the program may still be missing */
async function install(program: Program, onProgress?: (line: string) => void): Promise<string> {
  if (!findProgram(['apt-get'])) return 'it is not installed, and there is no apt-get'
  const asRoot = process.getuid?.() === 0 ? [] : ['sudo', '-n']
  if (asRoot.length > 0 && !(await maySudo())) return 'it is not installed, and only root may install it'
  onProgress?.(`installing ${program.title} with apt-get (it happens once)`)
  const [command = '', ...args] = [...asRoot, '/bin/sh', '-c', installScript, 'install', ...program.apt]
  const child = launch(command, args, { uninterrupted: true })
  const { code } = await child.exit
  return code === 0 ? 'apt-get installed it, but it is not to be found' : `apt-get failed: ${lastLine(child.stderr)}`
}

async function maySudo(): Promise<boolean> {
  if (!findProgram(['sudo'])) return false
  return (await launch('sudo', ['-n', 'true']).exit).code === 0
}

const lastLine = (text: string): string => text.trim().split('\n').at(-1) ?? ''
