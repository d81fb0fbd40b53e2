import { haproxy, nginx, upstreams } from '../fronts.ts'
import type { Machine, Program } from '../machine.ts'
import { type Scenario, type Subject, serverMetrics } from '../scenario.ts'
import { underLoad, type Work } from '../servers.ts'

/** The headers of a browser. */
const headers = {
  'User-Agent': 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  Accept: 'application/json, text/plain, */*',
  'Accept-Encoding': 'gzip, deflate, br',
  Cookie: 'sid=0123456789abcdef0123456789abcdef',
}
const work: Work = { connections: 50, requests: [{ path: '/api/v1/hello?name=world', headers }] }

const behind = upstreams(['0', '0', '0'])

const subject = (name: string, start: (machine: Machine, ports: readonly number[]) => Promise<Program>): Subject => ({
  name,
  open: async (machine) => underLoad(machine, await start(machine, await behind(machine)), work),
})

const program = (name: string, file: string, env: Record<string, string> = {}): Subject =>
  subject(name, (machine, ports) =>
    machine.program(file, { env, args: ports.map((port) => `http://127.0.0.1:${port}`) }),
  )

const ours = 'fastify-fleet createProxy'

const missed = {
  why: 'the proxy’s own code takes at most a tenth of the time; the rest is the kernel, V8 and node:http',
  profile: 'proxy.md',
}

const scenario: Scenario = {
  name: 'proxy',
  title: 'A reverse proxy in front of three upstreams',
  about:
    'GET with the headers of a browser, 50 persistent connections, three node:http upstreams on the other core that respond at ' +
    'once. fastify-fleet with its defaults: probes, outliers, retries, forwarded headers, metrics. nginx and ' +
    'HAProxy with one worker and upstream connections kept.',
  slices: 4,
  metrics: serverMetrics,
  subjects: [
    program('undici dispatch by hand', 'proxy-undici.js'),
    program(ours, 'proxy-fleet.js'),
    program('fast-proxy (undici)', 'proxy-fast-proxy.js', { CLIENT: 'undici' }),
    program('fast-proxy (http)', 'proxy-fast-proxy.js', { CLIENT: 'http' }),
    program('@fastify/http-proxy', 'proxy-fastify.js'),
    program('http-proxy-3', 'proxy-http-proxy-3.js'),
    subject('nginx, keepalive 32', (machine, ports) => nginx(machine, ports, 'keepalive 32;')),
    subject('nginx, keepalive 256', (machine, ports) => nginx(machine, ports, 'keepalive 256;')),
    subject('HAProxy', (machine, ports) => haproxy(machine, ports, 'roundrobin')),
  ],
  bars: [
    {
      what: 'CPU per request over @fastify/http-proxy',
      subject: ours,
      metric: 'cpu',
      over: '@fastify/http-proxy',
      limit: 0.6,
    },
    {
      what: 'CPU per request over undici by hand',
      subject: ours,
      metric: 'cpu',
      over: 'undici dispatch by hand',
      limit: 1.1,
    },
    {
      what: 'CPU per request over nginx (keepalive 32)',
      subject: ours,
      metric: 'cpu',
      over: 'nginx, keepalive 32',
      limit: 1.8,
      missed,
    },
    {
      what: 'CPU per request over nginx (keepalive 256)',
      subject: ours,
      metric: 'cpu',
      over: 'nginx, keepalive 256',
      limit: 1.8,
      missed,
    },
    { what: 'requests that failed', subject: ours, metric: 'failed', limit: 0 },
  ],
}
export default scenario
