import { execFileSync, spawn } from 'node:child_process'
import { readdirSync } from 'node:fs'
import { isAlive } from '../../helpers/alive.ts'

/** Why no network of several hosts can be made on this machine; `undefined` if one can. */
export function whyNot(): string | undefined {
  if (process.platform !== 'linux') return 'network namespaces need Linux'
  if (process.getuid?.() !== 0) return 'only root may make network namespaces'
  for (const [program, args] of [
    ['ip', ['-V']],
    ['iptables', ['-V']],
    ['unshare', ['-V']],
  ] as const)
    if (!succeeds(program, args)) return `the program ${program} is missing`
  const name = `fleet-${process.pid}-try`
  if (!succeeds('ip', ['netns', 'add', name])) return 'network namespaces cannot be made here'
  try {
    if (!succeeds('ip', ['-n', name, 'link', 'add', 'one', 'type', 'veth', 'peer', 'name', 'two']))
      return 'the kernel has no veth'
    const rule = ['netns', 'exec', name, 'iptables', '-w', '-A', 'FORWARD', '-m', 'statistic', '--mode', 'random']
    if (!succeeds('ip', [...rule, '--probability', '0.1', '-j', 'DROP'])) return 'iptables has no match `statistic`'
    return undefined
  } finally {
    succeeds('ip', ['netns', 'del', name])
  }
}

/** Whether the kernel can delay packets (`sch_netem`). Without it, a slow link is one of little bandwidth. */
export function hasNetem(network: Network): boolean {
  return succeeds('tc', ['-n', network.router, 'qdisc', 'replace', 'dev', 'lo', 'root', 'netem', 'delay', '1ms'])
}

function succeeds(program: string, args: readonly string[]): boolean {
  try {
    execFileSync(program, args, { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

function run(program: string, args: readonly string[], input = ''): void {
  execFileSync(program, args, { input, stdio: ['pipe', 'ignore', 'pipe'] })
}

/** Removes what a run left behind that was killed: its namespaces have the id of its process in their names. */
function removeLeftovers(): void {
  const names = succeeds('ls', ['/run/netns']) ? readdirSync('/run/netns') : []
  for (const name of names) {
    const pid = /^fleet-(\d+)-/.exec(name)?.[1]
    if (pid !== undefined && !isAlive(Number(pid))) succeeds('ip', ['netns', 'del', name])
  }
}

/** Namespaces to remove when this process ends in any way: a shell reads from a pipe that closes then. */
function removeAtExit(names: readonly string[]): () => void {
  const script = 'trap "" INT TERM HUP; read -r _; for name in "$@"; do ip netns del "$name"; done'
  const shell = spawn('/bin/sh', ['-c', script, 'sh', ...names], {
    detached: true,
    stdio: ['pipe', 'ignore', 'ignore'],
  })
  shell.unref()
  ;(shell.stdin as unknown as { unref(): void }).unref()
  return () => shell.stdin.end()
}

let networks = 0

/**
 * Hosts on one machine: a network namespace each, with one link to a router, which is a namespace, too. Faults happen in
 * the router, as in a real network: neither side is told.
 */
export class Network<Host extends string = string> {
  readonly #prefix = `fleet-${process.pid}-${++networks}`
  readonly router: string = `${this.#prefix}-router`
  readonly #hosts: readonly Host[]
  readonly #names: readonly string[]
  readonly #removeAtExit: () => void
  #slowed: Host[] = []
  #removed = false

  constructor(hosts: readonly Host[]) {
    removeLeftovers()
    this.#hosts = hosts
    this.#names = [this.router, ...hosts.map((host) => this.#name(host))]
    this.#removeAtExit = removeAtExit(this.#names)
    run('ip', ['-batch', '-'], this.#names.map((name) => `netns add ${name}\n`).join(''))
    const links = hosts.map((host, i) =>
      [
        `link add ${host} type veth peer name uplink netns ${this.#name(host)}`,
        `address add 10.77.${i + 1}.1/24 dev ${host}`,
        `link set ${host} up\n`,
      ].join('\n'),
    )
    run('ip', ['-n', this.router, '-batch', '-'], links.join(''))
    for (const [i, host] of hosts.entries()) {
      const lines = ['link set lo up', `address add 10.77.${i + 1}.2/24 dev uplink`, 'link set uplink up']
      run(
        'ip',
        ['-n', this.#name(host), '-batch', '-'],
        [...lines, `route add default via 10.77.${i + 1}.1`].join('\n'),
      )
    }
    this.#inRouter('sh', '-c', 'echo 1 > /proc/sys/net/ipv4/ip_forward')
  }

  address(host: Host): string {
    return `10.77.${this.#hosts.indexOf(host) + 1}.2`
  }

  /** The command that runs a program on a host, whose name is its address. The process is the program itself. */
  on(host: Host, program: string, ...args: readonly string[]): [program: string, args: string[]] {
    const script = 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"'
    const named = ['unshare', '--uts', '/bin/sh', '-c', script, this.address(host)]
    return ['ip', ['netns', 'exec', this.#name(host), ...named, program, ...args]]
  }

  /** Drops every packet from one host to another, also of open connections. `undefined` is every host. */
  drop(from: Host | undefined, to: Host | undefined): void {
    const source = from === undefined ? [] : ['-s', this.address(from)]
    const target = to === undefined ? [] : ['-d', this.address(to)]
    this.#inRouter('iptables', '-w', '-A', 'FORWARD', ...source, ...target, '-j', 'DROP')
  }

  /** Cuts the connection of two hosts in both directions; without a second one, that of a host to all. */
  cut(one: Host, other?: Host): void {
    this.drop(one, other)
    this.drop(other, one)
  }

  /** Drops a share of the packets from and to a host. */
  lose(host: Host, share: number): void {
    for (const direction of ['-s', '-d']) {
      const random = ['-m', 'statistic', '--mode', 'random', '--probability', String(share)]
      this.#inRouter('iptables', '-w', '-A', 'FORWARD', direction, this.address(host), ...random, '-j', 'DROP')
    }
  }

  /** Makes the link of a host slow in both directions: `netem delay 100ms`, or `tbf rate 400kbit limit 64kb`. */
  slow(host: Host, ...discipline: string[]): void {
    this.#slowed.push(host)
    run('tc', ['-n', this.router, 'qdisc', 'replace', 'dev', host, 'root', ...discipline])
    run('tc', ['-n', this.#name(host), 'qdisc', 'replace', 'dev', 'uplink', 'root', ...discipline])
  }

  /** Pulls the plug of a host's network. */
  unplug(host: Host): void {
    run('ip', ['-n', this.router, 'link', 'set', host, 'down'])
  }

  /** Ends all faults. */
  heal(): void {
    this.#inRouter('iptables', '-w', '-F', 'FORWARD')
    for (const host of this.#hosts) run('ip', ['-n', this.router, 'link', 'set', host, 'up'])
    for (const host of this.#slowed) {
      succeeds('tc', ['-n', this.router, 'qdisc', 'del', 'dev', host, 'root'])
      succeeds('tc', ['-n', this.#name(host), 'qdisc', 'del', 'dev', 'uplink', 'root'])
    }
    this.#slowed = []
  }

  /** Call it when no process runs on a host any more. Else it happens when this process ends. */
  remove(): void {
    if (this.#removed) return
    this.#removed = true
    for (const name of this.#names) succeeds('ip', ['netns', 'del', name])
    this.#removeAtExit()
  }

  #name(host: Host): string {
    return `${this.#prefix}-${host}`
  }

  #inRouter(program: string, ...args: string[]): void {
    run('ip', ['netns', 'exec', this.router, program, ...args])
  }
}
