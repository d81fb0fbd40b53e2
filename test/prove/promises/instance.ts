import type { PromiseLine } from '../promises.ts'

const lifecycle = 'docs/lifecycle.md'
const overload = 'docs/overload.md'
const tests = 'test/instance/lifecycle/lifecycle.test.ts'

export const instance = {
  'drain-serves': {
    wording:
      'The listener stays open and requests are served for `DRAIN_DELAY` (5 s in production), so that every load balancer has time to notice.',
    page: lifecycle,
    under: 'SIGTERM',
    cost: 'nothing',
    tests: [`${tests} › reports the drain at once and serves requests during the drain delay`],
  },
  'idle-sockets': {
    wording: 'Idle sockets stay open until nothing has arrived for 250 ms',
    page: lifecycle,
    under: 'a load balancer sends on a kept-alive connection while the instance shuts down',
    cost: 'nothing',
    tests: [
      'test/instance/lifecycle/shutdown.test.ts › closes a connection that was quiet for quietMs and not earlier',
      `${tests} › is not delayed by connections that are idle, turn idle late, sent nothing or half a request`,
    ],
  },
  'long-lived-connections': {
    wording:
      'HTTP/2 sessions get GOAWAY, WebSockets close with 1012 (service restart) spread over a window, event streams get a last event, `shutdown`, and end.',
    page: lifecycle,
    under: 'SIGTERM while such connections are open',
    cost: 'a reconnect',
    tests: [
      `${tests} › closes WebSockets with 1012, also if the client does not respond`,
      `${tests} › ends the event stream * with a shutdown event`,
      `${tests} › sends GOAWAY to HTTP/2 clients and finishes their streams`,
    ],
  },
  'shutdown-deadline': {
    wording: 'In-flight requests finish, or the deadline cuts them.',
    page: lifecycle,
    under: 'SIGTERM while a request takes longer than `SHUTDOWN_TIMEOUT`',
    cost: 'that request, which is logged',
    tests: [`${tests} › cuts requests at the deadline, logs their method, route and age, and exits 1`],
  },
  'hanging-plugin': {
    wording: '`onClose` hooks are awaited up to the deadline and one more second',
    page: lifecycle,
    under: 'a plugin never closes',
    cost: 'nothing',
    tests: [`${tests} › exits 1 if a plugin never closes, although nothing else keeps the process alive`],
  },
  'drain-retry': {
    wording:
      'The shipped configuration sets `X-Fleet-Retry: 1` on requests that nginx may send twice (GET, HEAD, OPTIONS). A draining instance rejects those with 502 before doing any work, if another instance is serving.',
    page: lifecycle,
    under: 'a drain behind nginx, which has no active health checks',
    cost: 'nothing: nginx sends the request to another instance',
    tests: [
      'test/instance/lifecycle/rejection.test.ts › rejects a retryable request while draining, with X-Fleet-Draining and Connection: close',
      'test/nginx/retry.test.ts › sends no retryable request to a draining instance, and loses none',
    ],
  },
  'shed-before-work': {
    wording: 'A shed request gets 503 `FLEET_ERR_OVERLOADED` with `Retry-After` before any work is done.',
    page: overload,
    under: 'more requests than a process can serve',
    cost: '503 with `Retry-After`',
    tests: [
      'test/instance/overload/fast-reject.test.ts › sends the same 503 as the hook and keeps the connection',
      'test/instance/overload/overload.test.ts › applies the target in the second long turn without an idle moment and serves the newest',
    ],
  },
  'few-requests-never-shed': {
    wording: 'At or below `minRequests`, in one turn and the one before or in flight, no load is shed.',
    page: overload,
    under: 'a busy machine and few requests',
    cost: 'a late response',
    tests: ['test/instance/overload/overload.test.ts › sheds nothing at or below minRequests, however slow'],
  },
} as const satisfies Record<string, PromiseLine>
