import assert from 'node:assert/strict'
import { test } from 'node:test'
import { stripVTControlCharacters } from 'node:util'
import { formatTable, Output, type OutputStream, type Progress, plural } from '../../src/cli/output.ts'

const capture = (isTTY = false, columns = 80) => ({
  text: '',
  isTTY,
  columns,
  write(text: string) {
    this.text += text
  },
})

test('a table has headings, columns as wide as their widest cell, and right-aligned numbers; colours have no width', () => {
  const lines = formatTable(
    [
      { id: 'api-1', rps: 9.5, state: '\u001b[32mserving\u001b[39m' },
      { id: 'a', rps: 120, state: undefined },
    ],
    ['id', 'state', 'rps'],
  )
  assert.deepEqual(lines.map(stripVTControlCharacters), [
    'ID     STATE    RPS',
    'api-1  serving  9.5',
    'a               120',
  ])
  assert.deepEqual(formatTable([], ['id']), ['ID'])
})

test('without a terminal, progress is plain lines on stderr', () => {
  const [stdout, stderr] = [capture(), capture()]
  const out = new Output({ stdout, stderr })
  const progress = out.progress('asking', 10)
  progress.step(10)
  progress.label('waiting')
  progress.label('waiting')
  progress.done('all answered')
  progress.fail('ends once')
  assert.equal(stdout.text, '')
  assert.equal(stderr.text, '… asking\n… waiting\n✓ all answered\n')
})

test('on a terminal, progress is redrawn below other output and never wraps', () => {
  const [stdout, stderr] = [capture(), capture(true, 40)]
  const out = new Output({ stdout, stderr })
  const first = out.progress('one', 4)
  const second = out.progress('a label that is far too long for this narrow terminal')
  first.step(2)
  out.note('meanwhile')
  const drawn = stderr.text.slice(stderr.text.lastIndexOf('meanwhile'))
  assert.deepEqual(stripVTControlCharacters(drawn).split('\n').slice(0, 2), [
    'meanwhile',
    '████████████░░░░░░░░░░░░ one 2/4',
  ])
  assert.ok(stripVTControlCharacters(drawn).split('\n')[2]?.endsWith('…'))
  for (const line of stripVTControlCharacters(stderr.text).split('\n')) assert.ok(line.length < 40, line)
  first.done()
  second.fail('gave up')
  assert.ok(
    stripVTControlCharacters(stderr.text).endsWith('✓ one\n⠋ a label that is far too long for thi…\n✗ gave up\n'),
  )
})

test('knows the width of the terminal that results go to', () => {
  const widthOf = (stdout: OutputStream, stderr: OutputStream) => new Output({ stdout, stderr }).terminalColumns
  const pipe = capture()
  assert.deepEqual(
    [widthOf(capture(true, 100), pipe), widthOf(capture(true, 0), pipe), widthOf(pipe, capture(true, 100))],
    [100, 80, undefined],
  )
})

test('progress shows control characters of its label as text, on one line', () => {
  const stderr = capture(true)
  const progress = new Output({ stdout: capture(), stderr }).progress('a\u001b[2J\nb\tc')
  assert.equal(stripVTControlCharacters(stderr.text), '⠋ a\ufffd[2J b c\n')
  progress.clear()
  assert.ok(stderr.text.endsWith('\n\u001b[1A\u001b[0J'))
})

test('close() erases unfinished progress', () => {
  const stderr = capture(true)
  const out = new Output({ stdout: capture(), stderr })
  out.progress('one')
  out.progress('two').clear()
  assert.ok(stderr.text.endsWith('⠋ one\n'))
  out.close()
  assert.ok(stderr.text.endsWith('⠋ one\n\u001b[1A\u001b[0J'))
})

test('with --json, lines and tables are omitted and each result is one line', () => {
  const [stdout, stderr] = [capture(), capture()]
  const out = new Output({ json: true, stdout, stderr })
  out.line('text')
  out.table([{ a: 1 }])
  out.result({ a: 1 })
  out.result([2])
  assert.equal(stdout.text, '{"a":1}\n[2]\n')
})

test('removes control characters from other sources', () => {
  const [stdout, stderr] = [capture(), capture()]
  const out = new Output({ stdout, stderr })
  out.line('id \u001b]0;title\u0007 \u001b[2J \r\u009b31m \u001b[31mred\u001b[39m\tok\nnext')
  out.note('\u001b[1A\b')
  assert.equal(stdout.text, 'id \ufffd]0;title\ufffd \ufffd[2J \ufffd\ufffd31m \u001b[31mred\u001b[39m\tok\nnext\n')
  assert.equal(stderr.text, '\ufffd[1A\ufffd\n')
})

test('pads each cell to its column, text on the left and numbers on the right, also with gaps', () => {
  const rows = [{ a: 'x', n: 1 }, { a: 'long', n: undefined }, { n: 100 }]
  assert.deepEqual(formatTable(rows, ['a', 'n']), ['A       N', 'x       1', 'long', '      100'])
  assert.deepEqual(formatTable([{ a: 1 }, { a: 'x' }], ['a']), ['A', '1', 'x'], 'one text makes a column text')
  const out = new Output({ stdout: capture(), stderr: capture() })
  assert.doesNotThrow(() => out.table([]))
})

test('draws a bar of 24 cells, full for nothing to do, and stops at its end', () => {
  const stderr = capture(true)
  const out = new Output({ stdout: capture(), stderr })
  const last = (): string => stripVTControlCharacters(stderr.text).trimEnd().split('\n').at(-1) ?? ''
  const progress = out.progress('a', 3)
  assert.equal(last(), `${'░'.repeat(24)} a 0/3`)
  progress.step()
  out.note('')
  assert.equal(last(), `${'█'.repeat(8)}${'░'.repeat(16)} a 1/3`)
  progress.step(5)
  out.note('')
  assert.equal(last(), `${'█'.repeat(24)} a 3/3`)
  progress.clear()
  out.progress('b', 0)
  assert.equal(last(), `${'█'.repeat(24)} b 0/0`)
  out.close()
})

test('clears progress after a task, whether it succeeds or fails', async () => {
  const stderr = capture()
  const out = new Output({ stdout: capture(), stderr })
  const work = async (progress: Progress): Promise<number> => {
    progress.label('more')
    return 7
  }
  assert.equal(await out.during('work', work), 7)
  await assert.rejects(
    out.during('fail', () => Promise.reject(new Error('no'))),
    /no/,
  )
  assert.equal(stderr.text, '… work\n… more\n… fail\n')
  const terminal = capture(true)
  await new Output({ stdout: capture(), stderr: terminal }).during('work', async () => undefined)
  assert.ok(terminal.text.endsWith('⠋ work\n\u001b[1A\u001b[0J'))
})

test('spins on a terminal, twelve times a second', (t) => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  const stderr = capture(true)
  const out = new Output({ stdout: capture(), stderr })
  const progress = out.progress('x')
  const frame = (): string => stripVTControlCharacters(stderr.text).trimEnd().split('\n').at(-1) ?? ''
  assert.equal(frame(), '⠋ x')
  t.mock.timers.tick(79)
  assert.equal(frame(), '⠋ x')
  t.mock.timers.tick(1)
  assert.equal(frame(), '⠙ x')
  t.mock.timers.tick(800)
  assert.equal(frame(), '⠙ x')
  progress.done('end')
  const { length } = stderr.text
  t.mock.timers.tick(800)
  assert.equal(stderr.text.length, length)
})

test('colours only what the stream can show, and marks errors', () => {
  const stream = (colours: boolean) => Object.assign(capture(), { hasColors: () => colours })
  const [plain, coloured] = [stream(false), stream(true)]
  for (const stderr of [plain, coloured]) new Output({ stdout: stderr, stderr }).error('no')
  assert.deepEqual([plain.text, coloured.text], ['error no\n', '\u001b[31merror\u001b[39m no\n'])
  assert.equal(new Output({ stdout: plain, stderr: coloured }).style('red', 'x'), 'x')
  assert.equal(new Output({ stdout: coloured, stderr: plain }).style('red', 'x'), '\u001b[31mx\u001b[39m')
})

test('counts in words', () => {
  assert.deepEqual(
    [0, 1, 2].map((count) => plural(count, 'check')),
    ['0 checks', '1 check', '2 checks'],
  )
})
