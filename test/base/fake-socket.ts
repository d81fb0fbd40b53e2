import { EventEmitter } from 'node:events'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** A connection whose state a test sets. */
export class FakeSocket extends EventEmitter {
  destroyed = false
  writableLength = 0
  writableEnded = false
  writableFinished = false
  writableNeedDrain = false
  bytesWritten: number | undefined = 0
  remotePort: number | undefined = 4711
  encrypted: boolean | undefined
  rstCode: number | undefined
  readonly calls: string[] = []

  constructor(state: Partial<FakeSocket> = {}) {
    super()
    Object.assign(this, state)
    if (state.rstCode === undefined) delete this.rstCode
  }
  destroy(): void {
    this.destroyed = true
    this.calls.push('destroy')
    this.emit('close')
  }
  resetAndDestroy(): void {
    this.destroyed = true
    this.calls.push('reset')
    this.emit('close')
  }
  close(code: number): void {
    this.calls.push(`close ${code}`)
  }
  end(...last: string[]): void {
    this.calls.push(['end', ...last].join(' '))
  }
  resume(): void {
    this.calls.push('resume')
  }
}

export const fake = (state?: Partial<FakeSocket>): FakeSocket & Duplex & Socket =>
  new FakeSocket(state) as unknown as FakeSocket & Duplex & Socket
