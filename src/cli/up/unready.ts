import { readdirSync, readFileSync, readlinkSync } from 'node:fs'
import { member, type TargetResponse } from '../target.ts'

/** Why a running program does not become ready. */
export interface Unready {
  /** The reason and what to do. */
  readonly text: string
  /** Whether waiting is pointless. */
  readonly final: boolean
  /** Whether the program may still be about to listen. */
  readonly starting?: true
}

const register = 'register the plugin: `await app.register(fleet)`, see the README of fastify-fleet'
const listenCall = `app.listen({ port: Number(process.env.PORT), host: '127.0.0.1' })`
const usePort = (port: number): string => `listen on PORT, which is ${port}: ${listenCall}`

/**
 * @param pid the process that should listen on `port`
 * @param response of its `/ready`
 */
export function whyUnready(pid: number, port: number, response: TargetResponse): Unready {
  const { status, error, instanceId, json } = response
  if (error === 'ECONNREFUSED') return notListening(pid, port)
  if (status === 0)
    return { text: `it accepts connections on port ${port}, but GET /ready gets no response (${error})`, final: false }
  if (status === 404 && instanceId === undefined)
    return { text: `it has no GET /ready (404); ${register}`, final: true }
  if (status === 404)
    return { text: 'its GET /ready is switched off or renamed; keep `health.paths.ready`', final: true }
  const reason = member(json, 'reason')
  const detail = typeof reason === 'string' ? `: ${reason}` : ''
  return { text: `GET /ready responds ${status}${detail}`, final: status < 500 }
}

function notListening(pid: number, port: number): Unready {
  const found = listening(pid)
  // It may have begun to listen after the request.
  if (found.length === 0 || found.some((each) => each.port === port && reachable.test(each.address)))
    return { text: `it does not listen yet; ${usePort(port)}`, final: false, starting: true }
  const ports = [...new Set(found.map((each) => each.port))]
  const text = ports.includes(port)
    ? `it listens on port ${port}, but not on 127.0.0.1; listen on HOST or 0.0.0.0`
    : `it listens on port ${ports.join(', ')}; ${usePort(port)}`
  return { text, final: false }
}

/** Advice for the output of a program that has exited. */
export function whyEnded(code: number | null, output: string, port: number): string | undefined {
  const taken = /EADDRINUSE\b.*?:(\d+)\b/.exec(output)?.[1]
  if (taken !== undefined && Number(taken) !== port) return `every instance needs a port of its own; ${usePort(port)}`
  return code === 0 ? `it must keep running and ${usePort(port)}` : undefined
}

/** Addresses, as the kernel writes them, that accept connections to 127.0.0.1: that one, 0.0.0.0, ::, and both in IPv6. */
const reachable = /^(?:0{8}|0100007F|0{32}|0{16}FFFF0000(?:0{8}|0100007F))$/i

/** Where a process listens by TCP; nothing where there is no /proc. */
function listening(pid: number): { readonly address: string; readonly port: number }[] {
  try {
    const sockets = new Set(
      readdirSync(`/proc/${pid}/fd`).map((fd) => {
        try {
          return /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/${pid}/fd/${fd}`))?.[1]
        } catch {
          return undefined // Closed meanwhile.
        }
      }),
    )
    const rows = ['tcp', 'tcp6'].flatMap((table) => readFileSync(`/proc/${pid}/net/${table}`, 'utf8').split('\n'))
    // Columns: index, local address, remote address, state (0A: listening), …, inode.
    const own = rows.map((row) => row.trim().split(/\s+/)).filter((row) => row[3] === '0A' && sockets.has(row[9]))
    return own.map((row) => {
      const [address = '', port = ''] = row[1]?.split(':') ?? []
      return { address, port: Number.parseInt(port, 16) }
    })
  } catch {
    return []
  }
}
