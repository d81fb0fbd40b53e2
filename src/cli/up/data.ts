import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join, relative, resolve } from 'node:path'
import { FleetError } from '../../base/errors.ts'
import { waitUntil } from '../wait-until.ts'

/** How long the Redis of a run that was killed may take to end, ms. */
const endTimeoutMs = 10_000

/** The folder of `--data`, in which servers keep their files and passwords between runs. One run at a time uses it. */
export class DataFolder {
  readonly path: string
  readonly #lock: string
  #locked = false

  constructor(path: string) {
    this.path = resolve(path)
    this.#lock = join(this.path, 'lock')
  }

  /** @throws FLEET_ERR_SERVICE_FAILED when another run uses it, or it cannot be written */
  async lock(): Promise<void> {
    try {
      this.folder()
      const other = this.#lockedBy()
      if (other !== undefined)
        throw this.#failed(`process ${other} uses it; stop that \`fleet up\`, or name another folder`)
      // Fails if another run creates it at the same moment.
      rmSync(this.#lock, { force: true })
      writeFileSync(this.#lock, String(process.pid), { flag: 'wx', mode: 0o600 })
      this.#locked = true
    } catch (error) {
      if (error instanceof FleetError) throw error
      throw this.#failed((error as Error).message)
    }
    const isFree = await waitUntil(() => pidIn(join(this.path, 'redis/redis.pid')) === undefined, endTimeoutMs, 50)
    if (isFree) return
    this.release()
    throw this.#failed(`a Redis uses it, process ${pidIn(join(this.path, 'redis/redis.pid'))}; stop it`)
  }

  release(): void {
    if (this.#locked) rmSync(this.#lock, { force: true })
    this.#locked = false
  }

  /** Creates a folder in it, or itself. */
  folder(name = ''): string {
    const path = join(this.path, name)
    // PostgreSQL started by root runs as another user, which must reach its folder.
    mkdirSync(path, { recursive: true, mode: process.getuid?.() === 0 ? 0o711 : 0o700 })
    return path
  }

  /** A random text that stays the same. */
  secret(name: string): string {
    const file = join(this.folder('secrets'), name)
    try {
      writeFileSync(file, randomBytes(32).toString('base64url'), { flag: 'wx', mode: 0o600 })
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw this.#failed((error as Error).message)
    }
    return readFileSync(file, 'utf8')
  }

  #lockedBy(): number | undefined {
    const pid = pidIn(this.#lock)
    return pid === process.pid ? undefined : pid
  }

  #failed(why: string): FleetError {
    return new FleetError('FLEET_ERR_SERVICE_FAILED', `--data ${relative('', this.path) || '.'}: ${why}`)
  }
}

/** The process that a file names, if it runs. */
function pidIn(file: string): number | undefined {
  try {
    const pid = Number(readFileSync(file, 'utf8'))
    if (!Number.isInteger(pid) || pid <= 0) return undefined
    process.kill(pid, 0)
    return pid
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM' ? Number(readFileSync(file, 'utf8')) : undefined
  }
}
