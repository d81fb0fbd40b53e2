import { haproxyProgram } from '../../src/cli/services/haproxy.ts'
import { provide } from '../../src/cli/services/install.ts'
import { nginxProgram, writeConfig } from '../../src/cli/services/nginx.ts'
import { freePort } from '../../src/cli/services/port.ts'
import { probePort } from '../../src/cli/services/server.ts'
import type { Machine } from '../machine.ts'
import type { Figures, Open, Scenario, Subject } from '../scenario.ts'
import { fleetEnv } from '../servers.ts'

type Front = 'nginx' | 'HAProxy'

const nginxConfig = (port: number, ports: readonly number[]): string => `
pid nginx.pid;
worker_processes 1;
events { worker_connections 16384; }
http {
  access_log off;
  error_log stderr crit;
  client_body_temp_path client_body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
  keepalive_timeout 600s; client_header_timeout 600s; keepalive_requests 1000000;
  upstream app { ${ports.map((each) => `server 127.0.0.1:${each};`).join(' ')} keepalive 256; }
  server {
    listen 127.0.0.1:${port} backlog=4096;
    location / { proxy_pass http://app; proxy_http_version 1.1; proxy_set_header Connection ''; }
  }
}`

const haproxyConfig = (port: number, ports: readonly number[]): string => `
global
  nbthread 1
  # Twice as many descriptors are demanded, for a connection of its own to the server each; these share a few.
  no strict-limits
  maxconn 10100
defaults
  mode http
  timeout connect 2s
  timeout client 600s
  timeout server 30s
  timeout http-request 600s
frontend front
  bind 127.0.0.1:${port} backlog 4096
  default_backend app
backend app
  http-reuse always
${ports.map((each, i) => `  server s${i} 127.0.0.1:${each}`).join('\n')}
`

async function start(
  machine: Machine,
  front: Front,
  ports: readonly number[],
): Promise<{ port: number; stop(): Promise<void> }> {
  const port = await freePort()
  const nginx = front === 'nginx'
  const path = await provide(nginx ? nginxProgram : haproxyProgram)
  const file = nginx ? 'nginx.conf' : 'haproxy.cfg'
  const folder = await writeConfig(front.toLowerCase(), file, {
    port,
    config: (nginx ? nginxConfig : haproxyConfig)(port, ports),
  })
  const args = nginx
    ? ['-p', folder, '-c', `${folder}/${file}`, '-e', 'stderr', '-g', 'daemon off;']
    : ['-db', '-f', `${folder}/${file}`]
  const child = machine.run(path, args, { cwd: folder })
  for (let tries = 0; !(await probePort(port)); tries++) {
    if (child.ended || tries > 100) throw new Error(`Error: ${front} does not listen: ${child.stderr.slice(-200)}`)
    await new Promise((resolve) => setTimeout(resolve, 50))
  }
  return { port, stop: () => child.stop(3_000) }
}

/** The front and its three instances share the server core. */
function subject(front: Front, connections: number): Subject {
  return {
    name: name(front, connections),
    async open(machine: Machine): Promise<Open> {
      const instances = await Promise.all(
        [1, 2, 3].map(() => machine.program('hello-fleet.js', { env: { ...fleetEnv, TRUST_PROXY: 'loopback' } })),
      )
      const { port, stop } = await start(
        machine,
        front,
        instances.map((instance) => instance.port),
      )
      const job = { port, connections, rate: 500, poisson: true }
      await machine.load({ ...job, connections: 100, seconds: 2 })
      return {
        async round(seconds): Promise<Figures> {
          const { latency, completed, succeeded, errors } = await machine.load({ ...job, seconds })
          const dropped = completed - succeeded + Object.values(errors).reduce((sum, count) => sum + count, 0)
          return { p50: latency.p50, p95: latency.p95, p99: latency.p99, rps: completed / seconds, dropped }
        },
        close: async () => {
          await stop()
          await Promise.all(instances.map((instance) => instance.stop()))
        },
      }
    },
  }
}

const name = (front: Front, connections: number): string => `${front}, ${connections.toLocaleString('en')} connections`

const fronts: readonly Front[] = ['nginx', 'HAProxy']
const scenario: Scenario = {
  name: 'connections',
  title: 'Ten thousand open connections through a front',
  about:
    'Three instances behind nginx and HAProxy, 500 requests per second at random moments over random ones of the open ' +
    'connections; the same with 100 connections beside it.',
  metrics: {
    p50: { title: 'p50 ms', digits: 2 },
    p95: { title: 'p95 ms', digits: 2 },
    p99: { title: 'p99 ms', digits: 2 },
    rps: { title: 'requests/s', digits: 0 },
    dropped: { title: 'dropped', digits: 0 },
  },
  subjects: fronts.flatMap((front) => [subject(front, 100), subject(front, 10_000)]),
  bars: fronts.flatMap((front) => [
    {
      what: `p95 with 10,000 connections over 100, ${front}`,
      subject: name(front, 10_000),
      metric: 'p95',
      over: name(front, 100),
      limit: 1.2,
    },
    { what: `dropped, ${front}`, subject: name(front, 10_000), metric: 'dropped', is: 'exactly' as const, limit: 0 },
  ]),
}
export default scenario
