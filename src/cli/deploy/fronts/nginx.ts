import { readFile } from 'node:fs/promises'
import { usageError } from '../../args.ts'
import { type Rotation, type Share, type Shares, sameShares } from '../rotation.ts'
import type { Step } from '../step.ts'

export interface NginxOptions {
  /** File with the `upstream` blocks. */
  readonly file: string
  /** Name of the upstream block of the fleet. */
  readonly upstream: string
  /** Command that runs nginx, e.g. `nginx -p /etc/fleet -c nginx.conf`. */
  readonly command: readonly string[]
  /** How long old workers may send requests to the old members after a reload, ms. */
  readonly settleMs: number
  readonly timeoutMs: number
}

/** @throws FLEET_ERR_USAGE when the file cannot be read or has no such upstream */
export async function nginxRotation(options: NginxOptions, managed: readonly string[]): Promise<Rotation> {
  const { file, upstream, command, settleMs, timeoutMs } = options
  const text = await readFile(file, 'utf8').catch((error: Error) => {
    throw usageError(`--upstreams: ${error.message}`)
  })
  const all = readShares(text, upstream) ?? new Map<string, Share>()
  const now = new Map([...all].filter(([address]) => managed.includes(address)))
  if (now.size === 0) {
    const them = managed.join(', ')
    throw usageError(`${file} has no upstream ${upstream} (--upstream) with one of ${them}`)
  }
  return {
    now,
    change: (from, to) => {
      if (sameShares(from, to)) return []
      const write: Step = { do: 'write', file, content: renderUpstreams(text, to, new Set(managed)) }
      const call = (...args: string[]): Step => ({ do: 'run', argv: [...command, ...args], timeoutMs })
      const why = 'old workers finish their requests'
      return [write, call('-t'), call('-s', 'reload'), { do: 'pause', ms: settleMs, why }]
    },
  }
}

const block = /(\bupstream\s+(\S+)\s*\{)([^}]*)\}/g
// During a canary, a comment keeps the configured weight, so that a later run can restore it.
const serverLine = /[ \t]*\bserver\s+([^\s;]+)([^;]*);(?:[ \t]*# configured:([^\n]*))?/g

interface Line {
  readonly address: string
  readonly settings: readonly string[]
  /** The configured weight behind one that a deploy has set: `weight=3` or empty. */
  readonly configured?: string
}

function readLines(body: string): Line[] {
  // Skip commented servers.
  const code = body.replace(/^[ \t]*#.*$/gm, '')
  return [...code.matchAll(serverLine)].map(([, address = '', settings = '', configured]) => ({
    address,
    settings: settings.trim().split(/\s+/).filter(Boolean),
    configured: configured?.trim(),
  }))
}

/** The members of an upstream; `undefined` without such an upstream. */
export function readShares(text: string, upstream: string): Shares | undefined {
  for (const [, , name, body = ''] of text.matchAll(block)) {
    if (name !== upstream) continue
    return new Map(
      readLines(body).map(({ address, settings, configured }): [string, Share] => {
        if (settings.includes('down')) return [address, 'none']
        const weight = settings.find((setting) => setting.startsWith('weight='))
        return [address, configured === undefined ? 'full' : Number(weight?.slice('weight='.length))]
      }),
    )
  }
  return undefined
}

/**
 * Replaces the members of every upstream that has one of the `managed` addresses. Methods, server parameters and other servers stay
 * unchanged. A new member gets the parameters of the first one.
 */
export function renderUpstreams(text: string, shares: Shares, managed: ReadonlySet<string>): string {
  return text.replace(block, (all, head: string, _name: string, body: string) => {
    const lines = readLines(body).filter(({ address }) => managed.has(address))
    const [first] = lines
    if (!first) return all
    const servers = [...shares].map(([address, share]) => {
      const known = lines.find((line) => line.address === address)
      return serverText(address, share, known ?? { address, settings: first.settings.filter(isCommon) })
    })
    let placed = false
    const fresh = body.replace(serverLine, (line, address: string) => {
      if (!managed.has(address)) return line
      if (placed) return ''
      placed = true
      return `\n${servers.join('\n')}\n`
    })
    // Remove the empty lines of replaced servers.
    return `${head}${fresh.replace(/[ \t]+\n/g, '\n').replace(/\n{2,}/g, '\n')}}`
  })
}

const isCommon = (setting: string): boolean => !/^(weight=\d+|down|backup)$/.test(setting)

function serverText(address: string, share: Share, { settings, configured }: Line): string {
  const own = settings.filter((setting) => setting !== 'down' && !/^weight=/.test(setting))
  const weight = configured ?? settings.find((setting) => /^weight=/.test(setting)) ?? ''
  const words = (...more: string[]): string => ['server', address, ...more, ...own].filter(Boolean).join(' ')
  if (typeof share !== 'number') return `  ${words(weight, share === 'none' ? 'down' : '')};`
  return `  ${words(`weight=${share}`)}; # configured:${weight && ` ${weight}`}`
}
