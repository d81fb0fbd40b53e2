import type { FrontSource, InstanceSource } from './facts.ts'

/** What is wrong and how it is mended. A retired code is never used again; docs/doctor.md lists every one. */
export interface Trap {
  readonly code: string
  readonly problem: string
  readonly mend: string
}

/** Mistakes that are one wherever they stand. */
export const traps = {
  'trust-everyone': {
    code: 'DOCTOR_TRUST_EVERYONE',
    problem: 'everyone may say who they are: any client can claim any address',
    mend: 'name the fronts: TRUST_PROXY=10.0.0.5, or `loopback`, `uniquelocal` where only fronts can reach the instance',
  },
  'front-address': {
    code: 'DOCTOR_FRONT_ADDRESS',
    problem: 'the client’s address is not passed on: every client looks like the front, and shares one rate limit',
    mend: 'nginx: `proxy_set_header X-Forwarded-For $remote_addr;`; HAProxy: `http-request set-header X-Forwarded-For %[src]`',
  },
  'front-protocol': {
    code: 'DOCTOR_FRONT_PROTOCOL',
    problem: 'instances are not told that a client came by https: secure cookies and redirects go wrong',
    mend: 'nginx: `proxy_set_header X-Forwarded-Proto $scheme;`; HAProxy: `http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]`',
  },
  'front-answers-probe': {
    code: 'DOCTOR_PROBE_ANSWERED_BY_FRONT',
    problem: 'the front answers the health path itself, which says nothing of the instances',
    mend: 'pass the path on to the instances',
  },
  'nginx-repeats-posts': {
    code: 'DOCTOR_REPEATS_POSTS',
    problem: '`non_idempotent` repeats a POST that may have been executed',
    mend: 'take it out; clients can repeat with an Idempotency-Key',
  },
  'nginx-connection': {
    code: 'DOCTOR_NGINX_CONNECTION',
    problem: 'a constant `Connection` header on every request ends the kept connections to instances',
    mend: '`map $http_upgrade $connection { "" ""; default upgrade; }` and `proxy_set_header Connection $connection;`',
  },
  'nginx-no-keepalive': {
    code: 'DOCTOR_NGINX_NO_KEEPALIVE',
    problem: 'before nginx 1.29.7 each request opens a connection to an instance',
    mend: '`keepalive 64;` as the last directive of the upstream',
  },
  'nginx-http-version': {
    code: 'DOCTOR_NGINX_HTTP_VERSION',
    problem: 'before nginx 1.29.7 requests go out as HTTP/1.0, which keeps no connection',
    mend: '`proxy_http_version 1.1;`',
  },
  'nginx-backup': {
    code: 'DOCTOR_NGINX_BACKUP',
    problem: 'nginx refuses `backup` beside this method',
    mend: 'take `backup` out, or use least_conn or round robin',
  },
  'nginx-plus': {
    code: 'DOCTOR_NGINX_PLUS',
    problem: 'open-source nginx does not know this directive',
    mend: 'take it out; instances that refuse are left alone by max_fails and fail_timeout',
  },
  'haproxy-no-check': {
    code: 'DOCTOR_HAPROXY_NO_CHECK',
    problem: 'servers are not checked: a dead or draining instance is given requests',
    mend: '`default-server check inter 1s fall 2 rise 2` and `option httpchk`',
  },
  'haproxy-no-httpchk': {
    code: 'DOCTOR_HAPROXY_NO_HTTPCHK',
    problem: 'only the port is checked: an open port says nothing of readiness',
    mend: '`option httpchk` and `http-check send meth GET uri /ready`',
  },
  'haproxy-open-stats': {
    code: 'DOCTOR_HAPROXY_OPEN_STATS',
    problem: 'the statistics page asks for no password',
    mend: '`stats auth "$LB_STATS_USER:$LB_STATS_PASSWORD"`, with the password from the environment',
  },
  'haproxy-stats-admin': {
    code: 'DOCTOR_HAPROXY_STATS_ADMIN',
    problem: 'everyone who sees the statistics page can take servers out',
    mend: 'take `stats admin` out; the runtime API does that',
  },
  'haproxy-repeats-posts': {
    code: 'DOCTOR_HAPROXY_REPEATS_POSTS',
    problem: '`retry-on` repeats a POST that may have been executed',
    mend: '`http-request disable-l7-retry unless METH_GET`',
  },
  'haproxy-redispatch': {
    code: 'DOCTOR_HAPROXY_REDISPATCH',
    problem: 'a failed try goes to the same instance again',
    mend: '`option redispatch 1`',
  },
  'haproxy-gone': {
    code: 'DOCTOR_HAPROXY_GONE',
    problem: 'HAProxy does not know this',
    mend: 'take it out; for least response time use the agent check',
  },
  'compose-fixed-port': {
    code: 'DOCTOR_COMPOSE_FIXED_PORT',
    problem: 'several copies cannot have one port of the machine',
    mend: 'publish the front’s port only',
  },
  'compose-container-name': {
    code: 'DOCTOR_COMPOSE_CONTAINER_NAME',
    problem: 'several copies cannot have one name',
    mend: 'take `container_name` out',
  },
  'pm2-wait-ready': {
    code: 'DOCTOR_PM2_WAIT_READY',
    problem: 'pm2 ends the old process as soon as the new one listens, ready or not',
    mend: '`wait_ready: true`',
  },
  'pm2-fork': {
    code: 'DOCTOR_PM2_FORK',
    problem: 'only in cluster mode can pm2 replace processes behind one port',
    mend: "`exec_mode: 'cluster'`",
  },
  'pm2-listen-timeout': {
    code: 'DOCTOR_PM2_LISTEN_TIMEOUT',
    problem: 'pm2 ends the old process before the new one has said whether it is ready',
    mend: '`listen_timeout` above FLEET_READY_TIMEOUT',
  },
  'pm2-computed': {
    code: 'DOCTOR_PM2_COMPUTED',
    problem: 'the list of apps is computed, so they were not examined: doctor reads this file, but does not execute it',
    mend: 'write `apps` as a list of objects; constants, arithmetic and `process.env.NAME || value` in it are read',
  },
  'systemd-kill-mode': {
    code: 'DOCTOR_SYSTEMD_KILL_MODE',
    problem: 'systemd signals the workers too, and they close the port before the supervisor has drained them',
    mend: '`KillMode=mixed`',
  },
  'systemd-notify-access': {
    code: 'DOCTOR_SYSTEMD_NOTIFY_ACCESS',
    problem: 'systemd does not listen to the child that says "ready", so the start times out',
    mend: '`NotifyAccess=all`',
  },
  'kubernetes-no-readiness': {
    code: 'DOCTOR_KUBERNETES_NO_READINESS',
    problem: 'without a readiness probe a pod gets requests while it starts',
    mend: '`readinessProbe: { httpGet: { path: /ready, port: http } }`',
  },
  'kubernetes-recreate': {
    code: 'DOCTOR_KUBERNETES_RECREATE',
    problem: 'Recreate ends every pod before the first new one starts',
    mend: '`type: RollingUpdate`, with maxUnavailable 0',
  },
} as const satisfies Record<string, Trap>

/** What is judged of an instance as a whole; `problem` is completed by the case. */
export const others = {
  readiness: {
    code: 'DOCTOR_READINESS_PATH',
    problem: 'readiness is asked at the wrong path',
    mend: 'ask /ready: it alone says 503 while the instance starts or drains',
  },
  liveness: {
    code: 'DOCTOR_LIVENESS_PATH',
    problem: 'liveness is asked at the wrong path',
    mend: 'ask /live: a path that looks at Redis restarts every instance when Redis is away',
  },
  trustMissing: {
    code: 'DOCTOR_TRUST_MISSING',
    problem: 'TRUST_PROXY is not set behind a front: every client has the front’s address, and shares one rate limit',
    mend: 'TRUST_PROXY=<address or network of the front>',
  },
  secretWeak: {
    code: 'DOCTOR_SECRET_WEAK',
    problem: 'a secret can be guessed',
    mend: 'make one with: openssl rand -hex 32',
  },
  memory: {
    code: 'DOCTOR_STATE_IN_MEMORY',
    problem: 'several instances, each with a memory of its own: sessions get lost',
    mend: 'set REDIS_URL, and take FLEET_ALLOW_MEMORY out',
  },
  id: {
    code: 'DOCTOR_INSTANCE_ID',
    problem: 'every copy gets the same INSTANCE_ID',
    mend: 'take INSTANCE_ID out: each copy then makes its own',
  },
  signals: {
    code: 'DOCTOR_SIGNALS',
    problem: 'SIGTERM reaches a shell or a package manager first, which may not pass it on',
    mend: 'start Node itself: node app.js, or `exec node app.js` in a shell',
  },
  values: {
    code: 'DOCTOR_VALUE',
    problem: 'a variable has a value the instance will refuse at start',
    mend: 'see docs/environment.md',
  },
  redis: {
    code: 'DOCTOR_REDIS_UNREACHABLE',
    problem: 'Redis does not answer',
    mend: 'start it, or mend its address or password; --offline leaves this check out',
  },
  database: {
    code: 'DOCTOR_DATABASE_UNREACHABLE',
    problem: 'the database does not answer',
    mend: 'start it, or mend its address; --offline leaves this check out',
  },
  syntax: { code: 'DOCTOR_SYNTAX', problem: 'the file cannot be read', mend: 'mend its syntax' },
} as const satisfies Record<string, Trap>

/** A front is judged beside the instances it stands before: those described by the same tool, else all the others. */
export const pairs: Readonly<Record<FrontSource, readonly InstanceSource[]>> = {
  nginx: ['compose', 'pm2', 'systemd', 'environment', 'app'],
  haproxy: ['compose', 'pm2', 'systemd', 'environment', 'app'],
  alb: ['ecs'],
  ingress: ['kubernetes'],
  cloudflare: ['ecs'],
}
