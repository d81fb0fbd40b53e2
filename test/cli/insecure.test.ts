import assert from 'node:assert/strict'
import { createServer } from 'node:https'
import { describe, it } from 'node:test'
import bench from '../../src/cli/commands/bench.ts'
import ps from '../../src/cli/commands/ps.ts'
import status from '../../src/cli/commands/status.ts'
import fleetTest from '../../src/cli/commands/test.ts'
import { Target } from '../../src/cli/target.ts'
import { pem, startListening } from '../edge/listening.ts'
import { runCommand } from './commands.ts'

/** A fleet without instances behind a self-signed certificate. */
const start = async (): Promise<string> => {
  const server = createServer(pem, (_request, response) => {
    response.writeHead(200, { 'content-type': 'application/json' }).end('[]')
  })
  return `https://localhost:${await startListening(server)}`
}

describe('a self-signed certificate', () => {
  it('is rejected, unless that was asked for', async () => {
    const url = await start()
    const rejected = await new Target(url).request('/')
    assert.deepEqual([rejected.status, /CERT|SELF_SIGNED/.test(rejected.error ?? '')], [0, true], rejected.error)
    assert.equal((await new Target(url, { insecure: true }).request('/')).text, '[]')
  })

  for (const [name, command, args, code] of [
    ['ps', ps, [], 0],
    ['status', status, [], 1],
    ['test', fleetTest, ['--load-distribution', '-n', '2'], 1],
    ['bench', bench, ['--duration', '1', '--warmup', '0', '--connections', '1'], 0],
  ] as const) {
    it(`is rejected by fleet ${name}, and accepted with --insecure`, async () => {
      const url = await start()
      const rejected = await runCommand(command, url, ...args)
      assert.deepEqual([rejected.code, /FLEET_ERR_UNREACHABLE/.test(rejected.stderr)], [2, true], rejected.stderr)
      const accepted = await runCommand(command, url, ...args, '--insecure')
      assert.equal(accepted.code, code, accepted.stderr)
    })
  }
})
