import assert from 'node:assert/strict'
import { PassThrough } from 'node:stream'
import { describe, it } from 'node:test'
import { Attempt, type AttemptOwner } from '../../../src/edge/balancer/attempt.ts'
import { RefusedStreamError } from '../../../src/edge/http/wire/http2-exchange.ts'
import type { UpstreamController, UpstreamHead } from '../../../src/edge/http/wire/response-head.ts'
import { stub } from './stub.ts'

/** An attempt, with what its owner hears and why it was aborted. */
function attempt({ rejectable = false, started = true, throws = '' } = {}) {
  const heard: unknown[] = []
  const aborted: Error[] = []
  const hear = (what: string, value: unknown): void => {
    heard.push(what === 'started' ? (value as UpstreamHead).status : what)
    if (what === throws) throw new Error('bug')
  }
  const heads: UpstreamHead[] = []
  const owner: AttemptOwner = {
    upgraded: (_, status) => hear('upgraded', status),
    started: (_, head) => {
      heads.push(head)
      hear('started', head)
    },
    data: (_) => hear('data', _),
    ended: (_, trailers) => hear('ended', trailers),
    failed: (_, error) => hear('failed', error),
    crashed: (_, error) => void heard.push(`crashed ${error.message}`),
  }
  const controller = { abort: (reason: Error) => void aborted.push(reason) } as never as UpstreamController
  const it = new Attempt(owner, stub(1), rejectable)
  if (started) it.onRequestStart(controller)
  const head = (status: number) => it.onResponseHead(controller, { status, headers: {}, message: '', draining: false })
  return { it, heard, heads, aborted, controller, head }
}

const messages = (errors: readonly Error[]): string[] => errors.map(({ message }) => message)

describe('an attempt', () => {
  it('forwards 16 informational responses; the next one is a failure', () => {
    const { heard, aborted, head } = attempt()
    for (let i = 0; i < 16; i++) head(103)
    assert.deepEqual([heard, aborted], [Array(16).fill(103), []])
    head(100)
    assert.deepEqual([heard.length, messages(aborted)], [16, ['response rejected: too many informational responses']])
    assert.equal(aborted[0]?.name, 'HTTPParserError')
  })

  it('does not count the response itself among the informational ones', () => {
    const { heard, aborted, head } = attempt()
    for (let i = 0; i < 16; i++) head(199)
    head(200)
    assert.deepEqual([heard.at(-1), aborted], [200, []])
  })

  it('fails at a protocol switch that nobody requested', () => {
    const { heard, aborted, head } = attempt()
    head(101)
    assert.deepEqual([heard, messages(aborted)], [[], ['response rejected: status 101']])
  })

  it('of undici accepts the chunked coding in any case and no other one', () => {
    for (const [coding, rejected] of [
      ['chunked', false],
      ['Chunked', false],
      [undefined, false],
      ['gzip', true],
      ['gzip, chunked', true],
      [['chunked', 'chunked'], true],
      ['', true],
    ] as const) {
      const { it, heard, aborted, controller } = attempt()
      const headers = coding === undefined ? {} : { 'transfer-encoding': coding as string }
      it.onResponseStart(controller, 200, headers, 'OK')
      assert.deepEqual(
        [heard, messages(aborted)],
        rejected ? [[], ['response rejected: Transfer-Encoding']] : [[200], []],
      )
    }
  })

  it('of undici keeps a reason that Node can send, and sees a drain', () => {
    for (const [text, message] of [
      ['OK', 'OK'],
      ['', ''],
      ['caf\xe9\t~', 'caf\xe9\t~'],
      ['\u20ac', undefined],
      ['a\x7f', undefined],
      ['a\nb', undefined],
      ['a\x80', 'a\x80'],
      [undefined, undefined],
    ] as const) {
      const { it, heads, controller } = attempt()
      it.onResponseStart(controller, 200, {}, text)
      it.onResponseStart(controller, 200, { 'x-fleet-draining': '1' }, text)
      assert.deepEqual(
        heads.map((head) => [head.message, head.draining]),
        [
          [message, false],
          [message, true],
        ],
      )
    }
  })

  it('counts as sent from its start, and not at all when the server refused its HTTP/2 stream', () => {
    const { it, controller, heard } = attempt({ rejectable: true, started: false })
    assert.deepEqual([it.sent, it.rejectable], [false, true])
    it.onRequestStart(controller)
    assert.deepEqual([it.sent, it.controller], [true, controller])
    it.onResponseError(controller, new Error('reset'))
    assert.equal(it.sent, true)
    it.onResponseError(controller, new RefusedStreamError())
    assert.deepEqual([it.sent, heard], [false, ['failed', 'failed']])
  })

  it('is settled once and released once, whatever comes first', () => {
    for (const first of ['settle', 'release'] as const) {
      const { it } = attempt()
      const calls: string[] = []
      const heard = (what: string) => (target: unknown) => void (target === it.target && calls.push(what))
      const context = { settle: heard('settle'), release: heard('release') } as never
      it[first](context)
      assert.equal(calls.length, first === 'settle' ? 1 : 2)
      for (const call of ['settle', 'release', 'release'] as const) it[call](context)
      assert.deepEqual(calls, ['settle', 'release'])
    }
  })

  it('that was cancelled before its connection was ready is aborted unsent', () => {
    const { it, aborted, controller } = attempt({ started: false })
    const reason = new Error('late')
    it.cancel(reason)
    assert.deepEqual(aborted, [])
    it.onRequestStart(controller)
    assert.deepEqual([aborted, it.sent], [[reason], false])
  })

  it('reads what it discards up to 64 KiB', () => {
    const { it, aborted, heard, controller } = attempt()
    it.onResponseData(controller, Buffer.alloc(100_000))
    it.discard()
    it.onResponseData(controller, Buffer.alloc(65_536))
    assert.deepEqual([aborted, heard], [[], ['data']])
    it.onResponseData(controller, Buffer.alloc(1))
    assert.deepEqual(messages(aborted), ['response not needed'])
  })

  for (const [step, play] of Object.entries({
    upgraded: ({ it, controller }: ReturnType<typeof attempt>, socket: PassThrough) =>
      it.onRequestUpgrade(controller, 101, {}, socket),
    started: ({ head }: ReturnType<typeof attempt>) => head(200),
    data: ({ it, controller }: ReturnType<typeof attempt>) => it.onResponseData(controller, Buffer.from('x')),
    ended: ({ it, controller }: ReturnType<typeof attempt>) => it.onResponseEnd(controller, {}),
    failed: ({ it, controller }: ReturnType<typeof attempt>) => it.onResponseError(controller, new Error('x')),
  })) {
    it(`survives a handler that throws when it has ${step}`, () => {
      const played = attempt({ throws: step })
      const socket = new PassThrough()
      play(played, socket)
      assert.deepEqual(played.heard, [step === 'started' ? 200 : step, 'crashed bug'])
      assert.equal(socket.destroyed, step === 'upgraded')
    })
  }
})
