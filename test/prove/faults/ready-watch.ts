import { repeat } from '../../helpers/repeat.ts'
import type { Shop } from './shop.ts'

/** Requests `/ready` of every instance all the time. */
export class ReadyWatch {
  /** Responses other than 200. */
  readonly unready: string[] = []
  readonly stop: () => Promise<void>
  /** Whether an instance has reported `degraded`. */
  degraded = false

  constructor({ instances }: Shop) {
    const look = async (at: number): Promise<void> => {
      const url = instances[at]?.url
      const ready = await fetch(`${url}/ready`)
      await ready.text()
      if (!ready.ok) this.unready.push(`instance ${at + 1}: ${ready.status}`)
      const { status } = (await (await fetch(`${url}/health`)).json()) as { status: string }
      if (status === 'degraded') this.degraded = true
    }
    this.stop = repeat(instances.length, look, 100)
  }
}
