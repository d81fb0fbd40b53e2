import { EventEmitter } from 'node:events'
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { TestContext } from 'node:test'
import { FleetError } from '../../../src/base/errors.ts'
import { ClientResponse } from '../../../src/edge/http/response.ts'
import type { UpstreamController } from '../../../src/edge/http/wire/response-head.ts'
import { type Clock, clock } from '../../helpers/clock.ts'

/** Records what is written, in the form of Node's response. */
export class FakeResponse extends EventEmitter {
  headersSent = false
  destroyed = false
  shouldKeepAlive = true
  accepts = true
  socket: object | null = { writableLength: 0 }
  readonly calls: unknown[] = []
  writeHead(status: number, ...rest: unknown[]): this {
    this.headersSent = true
    this.calls.push(['head', status, ...rest.filter((each) => each !== undefined)])
    return this
  }
  flushHeaders(): void {
    this.calls.push('flush')
  }
  write(chunk: Buffer | string): boolean {
    this.calls.push(['write', String(chunk)])
    return this.accepts
  }
  end(last?: Buffer | string): this {
    this.calls.push(last === undefined ? 'end' : ['end', String(last), typeof last])
    return this
  }
  addTrailers(trailers: object): void {
    this.calls.push(['trailers', Array.isArray(trailers) ? trailers : { ...trailers }])
  }
  getHeaderNames(): string[] {
    return ['x-set']
  }
  removeHeader(name: string): void {
    this.calls.push(['remove', name])
  }
  destroy(): void {
    this.destroyed = true
    this.calls.push('destroy')
  }
}

export interface Started {
  readonly client: ClientResponse
  readonly response: FakeResponse
  readonly controller: UpstreamController
  readonly controls: string[]
  readonly time: Clock
  head(status: number, headers?: Record<string, string | string[]>): void
}

/** A response to a client whose upstream a test plays. */
export function start(
  t: TestContext,
  given: { request?: object; closing?: boolean; setCookie?: string } = {},
): Started {
  const time = clock(t)
  const response = new FakeResponse()
  const request = { httpVersion: '1.1', method: 'GET', headers: {}, complete: true, ...given.request }
  const context = { closing: given.closing ?? false, sendTimeoutMs: 600, persistence: 'connection: keep-alive\r\n' }
  const input = { client: '', headers: {}, setCookie: given.setCookie }
  const client = new ClientResponse(
    context,
    request as unknown as IncomingMessage,
    response as unknown as ServerResponse,
    input,
  )
  const controls: string[] = []
  const controller = {
    paused: false,
    abort: (error: Error) => controls.push(`abort ${error instanceof FleetError ? error.code : error.message}`),
    pause: () => controls.push('pause'),
    resume: () => controls.push('resume'),
  } as unknown as UpstreamController
  client.onRequestStart(controller)
  const head: Started['head'] = (status, headers = {}) =>
    client.onResponseHead(controller, { status, headers, message: 'Text', draining: false })
  return { client, response, controller, controls, time, head }
}
