import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { commandOf, shellCommandOf, wordsOf } from '../../../src/cli/doctor/readers/process-one.ts'

describe('process 1', () => {
  it('is the program behind those that pass signals on', () => {
    for (const [line, command] of [
      ['node app.js', 'node app.js'],
      ['tini -- node app.js', 'node app.js'],
      ['/sbin/tini -s -e 143 -- npm start', 'npm start'],
      ['tini -p SIGTERM node app.js', 'node app.js'],
      ['nice -n 5 env A=1 B=2 npm start', 'npm start'],
      ['gosu shop npm start', 'npm start'],
      ['su-exec node:node tini -- npm start', 'npm start'],
      ['env -u HOME -- npm start', 'npm start'],
      ['docker-entrypoint.sh node app.js', 'node app.js'],
      ['dumb-init -c npm start', 'npm start'],
      ['dumb-init --single-child -- npm start', 'npm start'],
      ['npm start -- tini', 'npm start -- tini'],
      // The whole process group gets the signals.
      ['dumb-init npm start', undefined],
      ['dumb-init -r 15:3 -- npm start', undefined],
      ['tini -g -- npm start', undefined],
      ['tini -vg -- npm start', undefined],
      ['tini', undefined],
      ['', undefined],
    ] as const)
      assert.equal(commandOf(line.split(' ').filter(Boolean)), command, line)
  })

  it('of a shell is the shell, unless its text begins with exec', () => {
    assert.equal(shellCommandOf(' node app.js '), 'sh -c node app.js')
    assert.equal(shellCommandOf('exec node "my app.js"'), 'node my app.js')
    assert.equal(shellCommandOf('exec tini -- npm start'), 'npm start')
    assert.equal(shellCommandOf('executable'), 'sh -c executable')
    assert.equal(shellCommandOf(' '), undefined)
  })
})

it('a command line is split into words as by a shell', () => {
  for (const [line, words] of [
    [' a  b\tc\n', ['a', 'b', 'c']],
    [`a"b c"d 'e f' ""`, ['ab cd', 'e f', '']],
    [String.raw`a\ b "c\"d" 'e\f' g\h`, ['a b', 'c"d', String.raw`e\f`, 'gh']],
    ['a\\\nb', ['ab']],
    [String.raw`a\ `.trimEnd(), [String.raw`a\ `.trimEnd()]],
  ] as const)
    assert.deepEqual(wordsOf(line), words, line)
})
