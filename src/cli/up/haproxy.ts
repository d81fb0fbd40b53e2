import { type FrontKind, type FrontOptions, type FrontPlan, startFront } from './front.ts'
import type { Program } from './install.ts'
import type { Server } from './server.ts'

export const haproxyProgram: Program = {
  title: 'HAProxy',
  names: ['haproxy'],
  apt: ['haproxy'],
  brew: 'haproxy',
}

/** Starts HAProxy in master-worker mode, so that SIGUSR2 reloads it. @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
export const startHaproxy = (options: FrontOptions): Promise<Server> =>
  startFront(haproxyProgram, 'haproxy.cfg', options, (folder) => ['-W', '-db', '-C', folder, '-f', 'haproxy.cfg'])

export const haproxyFront: FrontKind = {
  title: 'HAProxy',
  program: haproxyProgram,
  start: (plan, options) => startHaproxy({ ...options, config: haproxyConfig(plan), port: plan.port }),
}

/** A complete haproxy.cfg for HAProxy 2.6 and later. */
export const haproxyConfig = ({ port, instances }: FrontPlan): string => `
global
  maxconn 4096
  hard-stop-after 10s
  # Percentage of used descriptors from which connections to instances are not kept; clients may use half of them.
  tune.pool-low-fd-ratio  80
  tune.pool-high-fd-ratio 90

defaults
  mode http
  option idle-close-on-response # a soft stop closes no connection on which a client may just be sending
  timeout connect 2s
  timeout http-request 10s
  timeout http-keep-alive 75s
  timeout client 10m # how long an event stream or a WebSocket may be silent
  timeout server 10m
  timeout tunnel 10m

frontend front
  bind 127.0.0.1:${port}
  # As in haproxy/haproxy.cfg: normalise the target, and reject paths that routers resolve differently.
  http-request set-uri %[pathq] if !{ url_beg / } { path_beg / }
  http-request deny deny_status 400 if { req.fhdr(host) -m reg '[^][0-9A-Za-z._:%-]' }
  http-request deny deny_status 400 if { path -m reg -i '%(00|[^0-9a-f]|[0-9a-f][^0-9a-f]|[0-9a-f]?$)' }
  http-request return status 404 if { path -m reg -i '(/|\\\\|%2f|%5c)(\\.|%2e)(\\.|%2e)?([;/\\\\#]|%3b|%2f|%5c|$)' }
  # Operators' paths are available on the instances only.
  http-request return status 404 if { path,url_dec -m reg -i '^[/\\\\]+(metrics|fleet|health(;[^/\\\\]*)?[/\\\\]+detailed|api(;[^/\\\\]*)?[/\\\\]+v1(;[^/\\\\]*)?[/\\\\]+load-balancer)([/\\\\;?#]|$)' }
  http-request del-header Forwarded
  http-request del-header X-Fleet-Retry
  http-request del-header '^x-(forwarded-|original-|rewrite-|host$)' -m reg
  http-request set-header X-Forwarded-For   %[src]
  http-request set-header X-Forwarded-Host  %[req.fhdr(host)]
  http-request set-header X-Forwarded-Proto http
  http-request set-header X-Forwarded-Port  %[dst_port]
  # When no instance is ready, try all: a draining one still responds.
  use_backend last_resort if { nbsrv(fleet) eq 0 }
  default_backend fleet

backend fleet
  balance roundrobin
  option httpchk GET /ready
  default-server check inter 500ms fall 1 rise 1 observe layer4 error-limit 1 on-error mark-down
  # Retry on another instance. A request that was sent is retried only if it is safe.
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response response-timeout 502
  http-request disable-l7-retry if !METH_GET
  # No X-Fleet-Retry: a draining instance serves until its listener closes; then a retry goes to another instance.
${instances.map((instance) => `  server instance-${instance} 127.0.0.1:${instance}`).join('\n')}

backend last_resort
  balance roundrobin
  option redispatch 1
  retries 10 # a retry avoids the last one tried, not all of them
${instances.map((instance) => `  server instance-${instance} 127.0.0.1:${instance}`).join('\n')}
`
