import { randomBytes } from 'node:crypto'
import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
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
      if (!this.#create()) {
        this.#removeStale()
        if (!this.#create()) throw this.#failed('another `fleet up` is starting with it; name another folder')
      }
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

  /** @returns false if there is a lock */
  #create(): boolean {
    try {
      writeFileSync(this.#lock, String(process.pid), { flag: 'wx', mode: 0o600 })
      return true
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false
      throw error
    }
  }

  /** Removes the lock of a run that has ended. */
  #removeStale(): void {
    this.#assertStale(this.#lock)
    // Another run may have replaced it since. What was renamed does not change any more.
    const renamed = `${this.#lock}.${process.pid}`
    renameSync(this.#lock, renamed)
    try {
      this.#assertStale(renamed)
    } catch (error) {
      renameSync(renamed, this.#lock)
      throw error
    }
    rmSync(renamed)
  }

  #assertStale(lock: string): void {
    const pid = pidIn(lock)
    if (pid !== undefined && pid !== process.pid)
      throw this.#failed(`process ${pid} uses it; stop that \`fleet up\`, or name another folder`)
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
