import { join } from 'node:path'
import { type FrontKind, type FrontOptions, type FrontPlan, startFront } from './front.ts'
import type { Program } from './install.ts'
import type { Server } from './server.ts'

export const nginxProgram: Program = {
  title: 'nginx',
  names: ['nginx'],
  apt: ['nginx', 'libnginx-mod-stream'],
  brew: 'nginx',
}

/** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
export const startNginx = (options: FrontOptions): Promise<Server> =>
  startFront(nginxProgram, 'nginx.conf', options, (folder) => {
    return ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr', '-g', 'daemon off;']
  })

export const nginxFront: FrontKind = {
  title: 'nginx',
  program: nginxProgram,
  start: (plan, options) => startNginx({ ...options, config: nginxConfig(plan), port: plan.port }),
}

/** Headers that some frameworks use for routing; those of clients are not forwarded. */
const routingHeaders = [
  ...['X-Forwarded-Path', 'X-Forwarded-Prefix', 'X-Forwarded-Scheme', 'X-Forwarded-Server', 'X-Forwarded-Ssl'],
  ...['X-Forwarded-Uri', 'X-Host', 'X-Original-Host', 'X-Original-Uri', 'X-Original-Url', 'X-Rewrite-Url'],
]

/** A complete nginx.conf for nginx 1.22 and later; paths are relative to the server's folder. */
export function nginxConfig({ port, instances, drainDelayMs }: FrontPlan): string {
  const failTimeout = `${Math.floor(drainDelayMs / 1000) + 1}s`
  const servers = (settings: string): string =>
    instances.map((instance) => `    server 127.0.0.1:${instance} ${settings};`).join('\n')
  return `
pid nginx.pid;
error_log stderr warn;
worker_processes auto;
worker_shutdown_timeout 10s;
events { worker_connections 4096; }

http {
  access_log off;
  server_tokens off;
  client_body_temp_path client_body;
  proxy_temp_path       proxy;
  fastcgi_temp_path     fastcgi;
  uwsgi_temp_path       uwsgi;
  scgi_temp_path        scgi;

  # Open-source nginx has no active health checks: it learns from failed requests, shared by all workers (zone). After one
  # failure it avoids an instance for longer than the drain, so that no request is on its way when the listener closes.
  upstream fleet {
    zone fleet 64k;
${servers(`max_fails=1 fail_timeout=${failTimeout}`)}
    server unix:last-resort.sock backup;
    keepalive 64;
    keepalive_requests 100000;
    keepalive_timeout 60s; # shorter than the instances' 72 s, so that nginx closes first
  }

  # When all have failed, try all again, without X-Fleet-Retry, so that a draining one serves the request.
  upstream last_resort {
    zone last_resort 64k;
${servers('max_fails=0')}
    keepalive 16;
    keepalive_timeout 60s;
  }

  # A draining instance rejects requests with this header at once. Only for requests that may be sent twice; never from clients.
  map $request_method $fleet_retry {
    GET     1;
    HEAD    1;
    OPTIONS 1;
    default '';
  }

  # As in nginx/snippets/maps.conf: use the host of the request line, and reject paths that routers resolve differently.
  map "$host $http_host" $fleet_host {
    "~*^(\\S+) \\1\\.?(?::\\d+)?$" $http_host;
    default                     $host;
  }
  map $request_uri $fleet_ambiguous {
    "~*^[^?#]*(?:/|\\x5c|%2f|%5c)(?:\\.|%2e)(?:\\.|%2e)?(?:[;/?#]|\\x5c|%3b|%2f|%5c|$)" 1;
    default '';
  }

  # Without an upgrade the header must be empty to keep connections to instances alive.
  map $http_upgrade $fleet_connection {
    ''      '';
    default upgrade;
  }

  proxy_http_version 1.1;
  proxy_set_header Connection        $fleet_connection;
  proxy_set_header Upgrade           $http_upgrade;
  proxy_set_header Host              $fleet_host;
  proxy_set_header X-Request-Id      $request_id;
  proxy_set_header X-Fleet-Retry     $fleet_retry;
  proxy_set_header X-Forwarded-For   $remote_addr;
  proxy_set_header X-Forwarded-Host  $fleet_host;
  proxy_set_header X-Forwarded-Proto $scheme;
  proxy_set_header X-Forwarded-Port  $server_port;
  proxy_set_header Forwarded         '';
${routingHeaders.map((name) => `  proxy_set_header ${name} '';`).join('\n')}

  # A request that was sent is retried only if it is safe (no non_idempotent).
  proxy_next_upstream error timeout http_502;
  proxy_connect_timeout 2s;
  proxy_read_timeout 10m; # how long an event stream or a WebSocket may be silent
  proxy_send_timeout 10m;
  client_max_body_size 10m;

  server {
    listen 127.0.0.1:${port};

    if ($fleet_ambiguous) { return 404; }
    # Operators' paths are available on the instances only.
    location ~* "^[/\\x5c]+(?:metrics|fleet|health(?:;[^/\\x5c]*)?[/\\x5c]+detailed|api(?:;[^/\\x5c]*)?[/\\x5c]+v1(?:;[^/\\x5c]*)?[/\\x5c]+load-balancer)(?:[/;\\x5c]|$)" { return 404; }

    location / { proxy_pass http://fleet; }
  }

  server {
    listen unix:last-resort.sock;
    location / {
      proxy_pass http://last_resort;
      # The first server has set the other headers; these replace the inherited list.
      proxy_set_header Host          $http_host;
      proxy_set_header Connection    $fleet_connection;
      proxy_set_header Upgrade       $http_upgrade;
      proxy_set_header X-Fleet-Retry '';
    }
  }
}
`
}
