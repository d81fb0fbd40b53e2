import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { temporaryFolder } from '../src/cli/up/child.ts'
import { haproxyProgram } from '../src/cli/up/haproxy.ts'
import { provide } from '../src/cli/up/install.ts'
import { nginxProgram } from '../src/cli/up/nginx.ts'
import { freePort } from '../src/cli/up/port.ts'
import { probePort } from '../src/cli/up/server.ts'
import type { Machine, Program } from './machine.ts'

/**
 * A function that starts HTTP servers on the generator's core, the first time it is called, and returns their ports. They
 * end with the run.
 *
 * @param works one server for each: `5`, milliseconds until it responds, or `5/1` with the number of requests it serves at once
 */
export function upstreams(works: readonly string[]): (machine: Machine) => Promise<readonly number[]> {
  let ports: Promise<readonly number[]> | undefined
  const start = async (machine: Machine): Promise<readonly number[]> => {
    const { child } = await machine.program('upstreams.js', { side: 'generator', args: works })
    return JSON.parse(/listening (\[.*\])/.exec(child.stdout)?.[1] ?? '[]')
  }
  return (machine) => {
    ports ??= start(machine)
    return ports
  }
}

/** nginx with one worker, as a reverse proxy. @param upstream further directives of its `upstream` block */
export async function nginx(machine: Machine, ports: readonly number[], upstream: string): Promise<Program> {
  const port = await freePort()
  const path = await provide(nginxProgram)
  const folder = writeConfig('nginx.conf', nginxConfig(port, ports, upstream))
  const args = ['-p', folder, '-c', `${folder}/nginx.conf`, '-e', 'stderr', '-g', 'daemon off;']
  return listens(machine, port, path, args, folder)
}

/** HAProxy with one thread, as a reverse proxy. @param balance arguments of `balance` */
export async function haproxy(machine: Machine, ports: readonly number[], balance: string): Promise<Program> {
  const port = await freePort()
  const path = await provide(haproxyProgram)
  const folder = writeConfig('haproxy.cfg', haproxyConfig(port, ports, balance))
  return listens(machine, port, path, ['-db', '-C', folder, '-f', 'haproxy.cfg'], folder)
}

/** Writes a configuration to a folder that workers of another user can enter. */
function writeConfig(name: string, text: string): string {
  const folder = temporaryFolder('bench-front')
  chmodSync(folder, 0o711)
  writeFileSync(join(folder, name), text)
  return folder
}

async function listens(machine: Machine, port: number, path: string, args: string[], cwd: string): Promise<Program> {
  const child = machine.run(path, args, { cwd })
  for (let tries = 0; !(await probePort(port)); tries++) {
    if (tries > 100) throw new Error(`${path} does not listen: ${child.stderr.trim().slice(-300)}`)
    await sleep(50)
  }
  return { port, pid: child.pid, child, stop: () => child.stop(3_000) }
}

const forwarded = ['X-Forwarded-For $remote_addr', 'X-Forwarded-Proto $scheme', 'X-Forwarded-Host $http_host']

const nginxConfig = (port: number, ports: readonly number[], upstream: string): string => `
pid nginx.pid;
error_log stderr crit;
worker_processes 1;
events { worker_connections 4096; }
http {
  access_log off;
  client_body_temp_path client_body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  keepalive_requests 1000000000;
  upstream app {
    ${upstream.includes('keepalive') ? '' : upstream}
    ${ports.map((each) => `server 127.0.0.1:${each};`).join(' ')}
    ${upstream.includes('keepalive') ? upstream : 'keepalive 256;'}
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port};
    location / {
      proxy_pass http://app;
      proxy_http_version 1.1;
      proxy_set_header Connection '';
      proxy_set_header Host $http_host;
      proxy_set_header X-Request-Id $request_id;
      ${forwarded.map((header) => `proxy_set_header ${header};`).join('\n      ')}
    }
  }
}
`

const haproxyConfig = (port: number, ports: readonly number[], balance: string): string => `
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 2s
  timeout client 30s
  timeout server 30s
  http-reuse safe
frontend front
  bind 127.0.0.1:${port}
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Host %[req.hdr(host)]
  http-request set-header X-Forwarded-Proto http
  unique-id-format %{+X}o%pid-%rt
  unique-id-header X-Request-Id
  default_backend app
backend app
  balance ${balance}
${ports.map((each, i) => `  server s${i} 127.0.0.1:${each}`).join('\n')}
`
