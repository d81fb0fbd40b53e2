import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { both, chain, run, settle } from '../../src/base/maybe-promise.ts'

describe('a value that may be a promise', () => {
  it('is passed on at once if it is none', async () => {
    assert.equal(
      chain(1, (value) => value + 1),
      2,
    )
    const later = chain(Promise.resolve(1), (value) => value + 1)
    assert.ok(later instanceof Promise)
    assert.equal(await later, 2)
  })

  it('is a pair at once if neither of two is a promise', async () => {
    assert.deepEqual(both(1, 'a'), [1, 'a'])
    for (const pair of [both(Promise.resolve(1), 'a'), both(1, Promise.resolve('a'))]) {
      assert.ok(pair instanceof Promise)
      assert.deepEqual(await pair, [1, 'a'])
    }
  })

  it('ends in a call of either `done` or `failed`', async () => {
    const calls: string[] = []
    const start = (work: () => number | Promise<number>): void =>
      run(
        work,
        (value) => calls.push(`done ${value}`),
        (error) => calls.push(`failed ${error}`),
      )
    start(() => 1)
    start(() => {
      throw 'now'
    })
    assert.deepEqual(calls, ['done 1', 'failed now'])
    start(async () => 2)
    start(() => Promise.reject('later'))
    assert.equal(calls.length, 2)
    await new Promise(setImmediate)
    assert.deepEqual(calls.slice(2), ['done 2', 'failed later'])
  })

  it('is reported to the callback, or by a promise without one', async () => {
    const outcomes: unknown[] = []
    assert.equal(
      settle(
        () => undefined,
        (error) => outcomes.push(error),
      ),
      undefined,
    )
    settle(
      () => {
        throw 'wrong'
      },
      (error) => outcomes.push(error),
    )
    assert.deepEqual(outcomes, [null, 'wrong'])
    assert.equal(await settle(() => undefined, undefined), undefined)
    await assert.rejects(settle(() => Promise.reject(new Error('wrong')), undefined) as Promise<void>, /wrong/)
  })
})
