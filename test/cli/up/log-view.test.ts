import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { Output } from '../../../src/cli/output.ts'
import { LogView, logLevel } from '../../../src/cli/up/log-view.ts'
import { until } from '../../helpers/until.ts'

const screen = (isTTY: boolean, colours = false) => {
  const stream = {
    text: '',
    isTTY,
    hasColors: () => colours,
    write(text: string) {
      stream.text += text
    },
  }
  return { stream, out: new Output({ stdout: stream, stderr: stream }) }
}

const at = new Date(2026, 0, 2, 3, 4, 5, 6).getTime()
const line = (more: object): string => `${JSON.stringify({ level: 30, time: at, pid: 1, hostname: 'h', ...more })}\n`

describe('the log of fleet up', () => {
  it('keeps each line as it is without a terminal, after the label', () => {
    const { stream, out } = screen(false, true)
    const view = new LogView(out)
    const json = line({ msg: 'incoming request' })
    view.write('app-1', `plain\n${json.slice(0, 9)}`)
    view.write('app-1', 'a warning\n', 'stderr')
    view.write('app-1', json.slice(9))
    assert.equal(stream.text, `app-1 | plain\napp-1 | a warning\napp-1 | ${json}`)
  })

  it('shows time, level, message, request and request id on a terminal, and further fields', () => {
    const { stream, out } = screen(true)
    const view = new LogView(out, { width: 6 })
    view.write('app-1', line({ reqId: 'r1', req: { method: 'GET', url: '/a' }, msg: 'incoming request' }))
    view.write('app-1', line({ level: 'WARN', time: new Date(at).toISOString(), msg: 'slow\u001b[2J', ms: 7 }))
    view.write('app-1', line({ level: 35, res: { statusCode: 200 }, responseTime: 1.26, msg: 'done', reqId: 3 }))
    view.write('worker', line({ level: 50, err: { message: 'no', stack: 'Error: no\n  at x' }, msg: 'no' }))
    view.write('app-1', '{"level":1\n{"other":1}\n')
    assert.deepEqual(stream.text.trim().split('\n'), [
      'app-1  │ 03:04:05.006 INFO  incoming request GET /a r1',
      'app-1  │ 03:04:05.006 WARN  slow {"ms":7}',
      'app-1  │ 03:04:05.006 35    done 200 1.3 ms 3',
      'worker │ 03:04:05.006 ERROR no',
      'worker │ Error: no',
      'worker │   at x',
      'app-1  │ {"level":1',
      'app-1  │ {"other":1}',
    ])
  })

  it('has one colour for an instance and its successor, and another for each other', () => {
    const { stream, out } = screen(true, true)
    const view = new LogView(out)
    view.write('app-1-a', 'x\n', 'stdout', 'app-1')
    view.write('app-2-b', 'x\n', 'stdout', 'app-2')
    view.write('app-1-c', 'x\n', 'stdout', 'app-1')
    assert.equal(stripVTControlCharacters(stream.text), 'app-1-a │ x\napp-2-b │ x\napp-1-c │ x\n')
    const colours = [...JSON.stringify(stream.text).matchAll(/\[(3\d)mapp/g)].map(([, colour]) => colour)
    assert.deepEqual(colours, ['36', '35', '36'])
  })

  it('leaves out lines of pino below the level, and no others', () => {
    for (const isTTY of [true, false]) {
      const { stream, out } = screen(isTTY)
      const view = new LogView(out, { level: logLevel('warn') })
      for (const level of [30, 39, 40, 50]) view.write('app-1', line({ level, msg: `level ${level}` }))
      view.write('app-1', 'plain\n')
      assert.deepEqual(stream.text.match(/level \d\d|plain/g), ['level 40', 'level 50', 'plain'])
    }
    assert.throws(() => logLevel('loud'), {
      code: 'FLEET_ERR_USAGE',
      message: /--log-level must be one of trace, debug, info, warn, error, fatal, not "loud"/,
    })
  })

  it('gives the first colour again to the seventh group', () => {
    const { stream, out } = screen(true, true)
    const view = new LogView(out)
    for (let i = 0; i < 7; i++) view.write(`app-${i}`, 'x\n')
    const colours = [...JSON.stringify(stream.text).matchAll(/\[(3\d)mapp/g)].map(([, colour]) => colour)
    assert.equal(new Set(colours.slice(0, 6)).size, 6)
    assert.equal(colours[6], colours[0])
  })

  it('shows the message of an error without a stack, and no control characters of a request', () => {
    const { stream, out } = screen(true)
    const view = new LogView(out)
    view.write('app', line({ level: 50, err: { message: 'no\u001b[2J stack' }, msg: 'failed' }))
    view.write('app', line({ req: { method: 'GET', url: '/\u001b]0;x\u0007' }, msg: 'in' }))
    assert.deepEqual(stream.text.trim().split('\n'), [
      'app │ 03:04:05.006 ERROR failed',
      'app │ no stack',
      'app │ 03:04:05.006 INFO  in GET /',
    ])
  })

  it('shows a record without time or with an unknown level, and objects that are no records of pino as they are', () => {
    const { stream, out } = screen(true)
    const view = new LogView(out)
    for (const record of [
      { level: 30, msg: 'no time' },
      { level: 30, time: 'yesterday', msg: 'no such time' },
      { level: 'ERROR', msg: 'by name', res: { statusCode: 'x' } },
    ])
      view.write('app', `${JSON.stringify(record)}\n`)
    view.write('app', '{"level":"loud"}\n{"level":null}\n')
    assert.deepEqual(stream.text.trim().split('\n'), [
      'app │ INFO  no time',
      'app │ INFO  no such time',
      'app │ ERROR by name x',
      'app │ {"level":"loud"}',
      'app │ {"level":null}',
    ])
  })

  it('waits 200 ms for the rest of a line, and shows the whole line once', (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] })
    const { stream, out } = screen(false)
    const view = new LogView(out)
    view.write('app-1', 'half ')
    t.mock.timers.tick(199)
    view.write('app-1', 'and ')
    t.mock.timers.tick(199)
    assert.equal(stream.text, '')
    view.write('app-1', 'half\n')
    t.mock.timers.tick(1_000)
    assert.equal(stream.text, 'app-1 | half and half\n')
    view.write('app-1', 'a prompt: ')
    t.mock.timers.tick(200)
    assert.equal(stream.text, 'app-1 | half and half\napp-1 | a prompt: \n')
    view.write('app-1', 'next\n')
    assert.match(stream.text, /\napp-1 \| next\n$/)
  })

  it('shows an incomplete line when no more of it follows', async () => {
    const { stream, out } = screen(false)
    new LogView(out).write('app-1', 'a prompt: ')
    assert.equal(stream.text, '')
    // The timer of the view does not keep the process.
    await until(() => stream.text === 'app-1 | a prompt: \n')
  })
})
