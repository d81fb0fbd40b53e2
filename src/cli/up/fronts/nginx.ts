import { nginxProgram, startNginx } from '../nginx.ts'
import type { FrontKind, FrontPlan } from './front.ts'

export const nginxFront: FrontKind = {
  title: 'nginx',
  program: nginxProgram,
  start: (plan, options) => startNginx({ ...options, config: nginxConfig(plan), port: plan.port }),
}

/** Other names for the URL that was asked for, by which some frameworks route: from a client none of them is passed on. */
const foreign = [
  ...['X-Forwarded-Path', 'X-Forwarded-Prefix', 'X-Forwarded-Scheme', 'X-Forwarded-Server', 'X-Forwarded-Ssl'],
  ...['X-Forwarded-Uri', 'X-Host', 'X-Original-Host', 'X-Original-Uri', 'X-Original-Url', 'X-Rewrite-Url'],
]

/** A whole nginx.conf, for nginx 1.22 and later; relative paths are below the server's folder. */
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

  # Open-source nginx asks no instance how it is: it learns from failed requests, shared by all workers (zone). One
  # failure leaves an instance out for longer than it drains, so that nothing is on its way when it stops listening.
  upstream fleet {
    zone fleet 64k;
${servers(`max_fails=1 fail_timeout=${failTimeout}`)}
    server unix:last-resort.sock backup;
    keepalive 64;
    keepalive_requests 100000;
    keepalive_timeout 60s; # shorter than the instances' 72 s: who sends must be the one who closes
  }

  # When none is left, all are asked again, and a draining one is told that nobody else will answer.
  upstream last_resort {
    zone last_resort 64k;
${servers('max_fails=0')}
    keepalive 16;
    keepalive_timeout 60s;
  }

  # "Refuse this at once if you are draining": only for requests that may be sent twice. A client cannot set it.
  map $request_method $fleet_retry {
    GET     1;
    HEAD    1;
    OPTIONS 1;
    default '';
  }

  # As nginx/snippets/maps.conf: the host of the request line counts, and no path that some instances would resolve, and
  # others not.
  map "$host $http_host" $fleet_host {
    "~*^(\\S+) \\1\\.?(?::\\d+)?$" $http_host;
    default                     $host;
  }
  map $request_uri $fleet_ambiguous {
    "~*^[^?#]*(?:/|\\x5c|%2f|%5c)(?:\\.|%2e)(?:\\.|%2e)?(?:[;/?#]|\\x5c|%3b|%2f|%5c|$)" 1;
    default '';
  }

  # Without an upgrade the header must be empty, else connections to instances are not kept.
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
${foreign.map((name) => `  proxy_set_header ${name} '';`).join('\n')}

  # A request that was sent is sent again only when it is safe (no non_idempotent); one that was not sent, always.
  proxy_next_upstream error timeout http_502;
  proxy_connect_timeout 2s;
  proxy_read_timeout 10m; # how long an event stream or a WebSocket may be silent
  proxy_send_timeout 10m;
  client_max_body_size 10m;

  server {
    listen 127.0.0.1:${port};

    if ($fleet_ambiguous) { return 404; }
    # For operators, who ask an instance directly.
    location ~* "^[/\\x5c]+(?:metrics|fleet|health(?:;[^/\\x5c]*)?[/\\x5c]+detailed|api(?:;[^/\\x5c]*)?[/\\x5c]+v1(?:;[^/\\x5c]*)?[/\\x5c]+load-balancer)(?:[/;\\x5c]|$)" { return 404; }

    location / { proxy_pass http://fleet; }
  }

  server {
    listen unix:last-resort.sock;
    location / {
      proxy_pass http://last_resort;
      # The headers above were set on the way here; naming some replaces all.
      proxy_set_header Host          $http_host;
      proxy_set_header Connection    $fleet_connection;
      proxy_set_header Upgrade       $http_upgrade;
      proxy_set_header X-Fleet-Retry '';
    }
  }
}
`
}
