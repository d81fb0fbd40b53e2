import { EventEmitter } from 'node:events'
import type { ClientHttp2Session } from 'node:http2'
import type { TestContext } from 'node:test'
import type { WireOptions } from '../../../../src/edge/http/wire/connection.ts'
import { Http2Exchange } from '../../../../src/edge/http/wire/http2-exchange.ts'
import type { WireRequest } from '../../../../src/edge/http/wire/request-writer.ts'
import { type Clock, clock } from '../../../helpers/clock.ts'

export class FakeStream extends EventEmitter {
  destroyed = false
  writableEnded = false
  writableLength = 0
  readableEnded = false
  rstCode: number | undefined
  accepts = true
  readonly calls: string[] = []
  write(chunk: Buffer): boolean {
    this.calls.push(`write ${chunk}`)
    return this.accepts
  }
  end(body?: Buffer): void {
    this.calls.push(body ? `end ${body}` : 'end')
    this.writableEnded = true
  }
  pause(): void {
    this.calls.push('pause')
  }
  resume(): void {
    this.calls.push('resume')
  }
  close(code: number): void {
    this.calls.push(`close ${code}`)
  }
}

export interface Started {
  readonly time: Clock
  readonly stream: FakeStream
  readonly exchange: Http2Exchange
  /** What the handler and the pool were told. */
  readonly seen: unknown[]
  readonly fields: Record<string, unknown>
  readonly endStream: boolean
}

/** A request over HTTP/2 whose stream a test plays. */
export function start(t: TestContext, given: Partial<WireRequest> = {}, bounds: Partial<WireOptions> = {}): Started {
  const time = clock(t)
  const request = { method: 'GET', path: '/a', headers: 'host: x\r\n', body: null, rejectable: false, ...given }
  const stream = new FakeStream()
  const seen: unknown[] = []
  const sent = { fields: {}, endStream: false }
  const handler = {
    onRequestStart: () => seen.push('start'),
    onResponseStart: (_: unknown, status: number, headers: object) => seen.push([status, { ...headers }]),
    onResponseData: (_: unknown, chunk: Buffer) => seen.push(`data ${chunk}`),
    onResponseEnd: (_: unknown, trailers: object) => seen.push(['end', { ...trailers }]),
    onResponseError: (controller: unknown, { name }: Error) => seen.push(controller === null ? [name] : name),
  }
  const limits = { responseTimeoutMs: 1000, bodyTimeoutMs: 500, ...bounds } as WireOptions
  const exchange = new Http2Exchange(request, handler, limits, () => seen.push('done'))
  const session = {
    request(fields: object, { endStream }: { endStream: boolean }) {
      Object.assign(sent, { fields, endStream })
      return stream
    },
  }
  exchange.start(session as unknown as ClientHttp2Session)
  return { time, stream, exchange, seen, ...sent }
}
