import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { nginx } from './front.ts'

/** An nginx that runs on this machine. */
export interface Release {
  /** Major and minor. */
  readonly version: string
  /** Why it cannot run here. */
  readonly missing?: string
  /** A program that takes the arguments of nginx. */
  readonly program: string
  /** Ends it with SIGKILL, workers included, and without a trace. `pid`: of the program. */
  kill(pid: number): void
}

/** The image of the compose file. Tests pull no image. */
const image = 'nginx:1.30'

function versionOf(program: string): string | undefined {
  const { stderr } = spawnSync(program, ['-v'], { encoding: 'utf8' })
  return /nginx\/(\d+\.\d+)/.exec(stderr)?.[1]
}

async function installed(): Promise<Release> {
  const program = await nginx()
  // It leads a group of processes.
  return { version: versionOf(program) ?? 'unknown', program, kill: (pid) => void process.kill(-pid, 'SIGKILL') }
}

/** The official image, or a stand-in with its name: a script that runs it like an installed program. */
function dockerised(): Release {
  const program = join(temporaryFolder('nginx-image'), 'nginx')
  const options = `--rm --pull never --network host --pid host --volume ${tmpdir()}:${tmpdir()}`
  // The shell becomes the client of Docker, which passes signals on, and keeps its process id.
  const script = `#!/bin/sh\nexec docker run ${options} --name fleet-nginx-$$ ${image} nginx "$@"\n`
  writeFileSync(program, script, { mode: 0o755 })
  const version = versionOf(program)
  return {
    version: version ?? image.replace('nginx:', ''),
    program,
    kill: (pid) => void spawnSync('docker', ['kill', `fleet-nginx-${pid}`]),
    ...(version === undefined && { missing: `Docker is not running here, or does not have the image ${image}` }),
  }
}

/** The installed nginx, and a current one if Docker can run it. */
export const releases: readonly [Release, Release] = [await installed(), dockerised()]
