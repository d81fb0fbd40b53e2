import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { FleetError } from '../../base/errors.ts'
import { usageError } from '../args.ts'

const timeoutMs = 10_000

/** Sends one command to HAProxy's runtime API. @throws FLEET_ERR_UNREACHABLE */
export async function ask(socket: string, command: string): Promise<string> {
  const connection = connect(socket)
  connection.setTimeout(timeoutMs, () => connection.destroy(new Error(`no response within ${timeoutMs / 1000} s`)))
  try {
    connection.end(`${command}\n`)
    return (await text(connection)).trim()
  } catch (error) {
    throw new FleetError('FLEET_ERR_UNREACHABLE', `HAProxy’s runtime API at ${socket}: ${(error as Error).message}`)
  }
}

export interface ServerState {
  readonly name: string
  /** `host:port` */
  readonly address: string
  /** It receives requests: its checks pass, and it is neither drained nor in maintenance. */
  readonly up: boolean
  /** In drain or maintenance by an administrator. */
  readonly out: boolean
  readonly weight: number
  /** The weight comes from the configuration or the server's agent; the runtime API has not changed it. */
  readonly ownWeight: boolean
}

/** Bits of srv_admin_state: forced, inherited and other maintenance, forced and inherited drain (management guide 9.3). */
const adminOut = 0x01 | 0x02 | 0x04 | 0x08 | 0x10
/** Bits of srv_agent_state: configured, and enabled. */
const agentEnabled = 0x02 | 0x04

/** @throws FLEET_ERR_UNREACHABLE, FLEET_ERR_USAGE for an unknown backend */
export async function servers(socket: string, backend: string): Promise<readonly ServerState[]> {
  const response = await ask(socket, `show servers state ${backend}`)
  const [, head = '', ...lines] = response.split('\n')
  if (!head.startsWith('#')) throw usageError(`HAProxy: ${response}`)
  const columns = head.slice(1).trim().split(/\s+/)
  return lines.map((line) => {
    const cells = line.trim().split(/\s+/)
    const cell = (name: string): string => cells[columns.indexOf(name)] ?? ''
    const out = (Number(cell('srv_admin_state')) & adminOut) !== 0
    return {
      name: cell('srv_name'),
      address: `${cell('srv_addr')}:${cell('srv_port')}`,
      // 0 is stopped, 1 starting (slowly), 2 running, 3 stopping.
      up: !out && ['1', '2'].includes(cell('srv_op_state')),
      out,
      weight: Number(cell('srv_uweight')),
      ownWeight:
        cell('srv_uweight') === cell('srv_iweight') ||
        (Number(cell('srv_agent_state')) & agentEnabled) === agentEnabled,
    }
  })
}
