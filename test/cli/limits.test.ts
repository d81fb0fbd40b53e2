import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import bench from '../../src/cli/commands/bench.ts'
import deploy from '../../src/cli/commands/deploy.ts'
import start from '../../src/cli/commands/start.ts'
import fleetTest from '../../src/cli/commands/test.ts'
import { runCommand } from './commands.ts'

/** Nothing listens there. */
const nowhere = 'http://127.0.0.1:1'
const number = (min: number, max: number): string => `a whole number from ${min} to ${max}`
const path = 'a path that starts with /'

const verbs = [
  {
    command: fleetTest,
    args: [nowhere],
    options: {
      timeout: number(1, 600_000),
      requests: number(1, 10_000),
      concurrency: number(1, 100),
      instances: number(1, 10_000),
      'max-p95': number(1, 600_000),
      'max-error-rate': 'a number from 0 to 100',
      ...{ path, 'login-path': path, 'logout-path': path, 'me-path': path, 'session-path': path },
    },
  },
  {
    command: bench,
    args: [nowhere],
    options: {
      duration: number(1, 3_600),
      connections: number(1, 1_000),
      warmup: number(0, 60),
      rate: number(1, 20_000),
      timeout: number(1, 600_000),
    },
  },
  {
    command: start,
    args: [fileURLToPath(import.meta.url)],
    options: {
      workers: number(1, 1_024),
      'ready-timeout': number(1, 3_600_000),
      'stuck-after': number(1_500, 3_600_000),
      'memory-limit': number(0, 16_777_216),
    },
  },
  {
    command: deploy,
    args: ['rolling', '--front', 'compose', '--version', '2'],
    options: { scale: number(1, 1_000), timeout: number(1_000, 3_600_000) },
  },
] as const

describe('the limits of options', () => {
  for (const { command, args, options } of verbs)
    it(`of fleet ${command.name} are in the error, before anything is done`, async () => {
      for (const [name, kind] of Object.entries(options)) {
        const { code, stderr } = await runCommand(command, ...args, `--${name}`, 'x')
        assert.equal(code, 2, name)
        assert.ok(stderr.includes(`FLEET_ERR_USAGE`), stderr)
        assert.ok(stderr.includes(`--${name} must be ${kind}, not "x"`), stderr)
      }
    })

  it('are exceeded by one more, and a path has visible characters of ASCII only', async () => {
    for (const args of [
      ...['100.1', '101', '999', '0.0000001'].map((value) => ['--max-error-rate', value]),
      ...['/a b', '/\u00e9', '/a\n'].map((value) => ['--path', value]),
    ]) {
      const { code, stderr } = await runCommand(fleetTest, nowhere, ...args)
      assert.deepEqual([code, stderr.includes(`FLEET_ERR_USAGE`)], [2, true], args.join(' '))
    }
  })

  it('are allowed', async () => {
    for (const args of [
      ...['1', '10000'].map((value) => ['--requests', value, '--instances', value]),
      ...['1', '100'].map((value) => ['--concurrency', value]),
      ...['1', '600000'].map((value) => ['--timeout', value, '--max-p95', value]),
      ...['0', '100', '0.000001'].map((value) => ['--max-error-rate', value]),
      ['--path', '/', '--session-path', '/~'],
    ]) {
      const { code, stderr } = await runCommand(fleetTest, nowhere, ...args)
      assert.equal(code, 2)
      assert.match(stderr, /FLEET_ERR_UNREACHABLE/, args.join(' '))
    }
  })
})
