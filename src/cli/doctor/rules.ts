/** A problem and its fix. */
export interface Rule {
  readonly problem: string
  readonly fix: string
}
export type RuleCode = keyof typeof rules

/**
 * The rules apart from the timeout rules, by code. Findings complete `problem` with a detail. Retired codes are never reused;
 * docs/doctor.md lists all codes.
 */
export const rules = {
  // Mistakes in one place, whatever the other files say.
  DOCTOR_TRUST_EVERYONE: {
    problem: 'every client is trusted as a proxy, and can claim any address',
    fix: 'list the load balancers: TRUST_PROXY=10.0.0.5, or `loopback` or `uniquelocal` if only they can reach the instance',
  },
  DOCTOR_FRONT_ADDRESS: {
    problem: 'the client’s address is not forwarded: all clients share the front’s address and its rate limit',
    fix: 'nginx: `proxy_set_header X-Forwarded-For $remote_addr;`; HAProxy: `http-request set-header X-Forwarded-For %[src]`',
  },
  DOCTOR_FRONT_PROTOCOL: {
    problem: 'instances do not know that a client uses https: secure cookies and redirects break',
    fix: 'nginx: `proxy_set_header X-Forwarded-Proto $scheme;`; HAProxy: `http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]`',
  },
  DOCTOR_PROBE_ANSWERED_BY_FRONT: {
    problem: 'the front responds to the health path itself, whatever the state of the instances',
    fix: 'proxy the path to the instances',
  },
  DOCTOR_REPEATS_POSTS: {
    problem: '`non_idempotent` retries a POST that may have been executed',
    fix: 'remove it; clients can retry with an Idempotency-Key',
  },
  DOCTOR_NGINX_CONNECTION: {
    problem: 'a constant `Connection` header on every request disables keep-alive to the instances',
    fix: '`map $http_upgrade $connection { "" ""; default upgrade; }` and `proxy_set_header Connection $connection;`',
  },
  DOCTOR_NGINX_NO_KEEPALIVE: {
    problem: 'before nginx 1.29.7, each request opens a connection to an instance',
    fix: '`keepalive 64;` as the last directive of the upstream',
  },
  DOCTOR_NGINX_HTTP_VERSION: {
    problem: 'before nginx 1.29.7, requests are sent as HTTP/1.0, without keep-alive',
    fix: '`proxy_http_version 1.1;`',
  },
  DOCTOR_NGINX_BACKUP: {
    problem: 'nginx rejects `backup` with this method',
    fix: 'remove `backup`, or use least_conn or round robin',
  },
  DOCTOR_NGINX_PLUS: {
    problem: 'open-source nginx does not have this directive',
    fix: 'remove it; max_fails and fail_timeout avoid failing instances',
  },
  DOCTOR_HAPROXY_NO_CHECK: {
    problem: 'servers are not health-checked: a dead or draining instance receives requests',
    fix: '`default-server check inter 1s fall 2 rise 2` and `option httpchk`',
  },
  DOCTOR_HAPROXY_NO_HTTPCHK: {
    problem: 'only the port is checked: an open port does not mean that the instance is ready',
    fix: '`option httpchk` and `http-check send meth GET uri /ready`',
  },
  DOCTOR_HAPROXY_OPEN_STATS: {
    problem: 'the statistics page needs no password',
    fix: '`stats auth "$LB_STATS_USER:$LB_STATS_PASSWORD"`, with the password from the environment',
  },
  DOCTOR_HAPROXY_STATS_ADMIN: {
    problem: 'everyone with access to the statistics page can disable servers',
    fix: 'remove `stats admin`; use the runtime API',
  },
  DOCTOR_HAPROXY_REPEATS_POSTS: {
    problem: '`retry-on` retries a POST that may have been executed',
    fix: '`http-request disable-l7-retry unless METH_GET`',
  },
  DOCTOR_HAPROXY_REDISPATCH: {
    problem: 'a retry goes to the same instance',
    fix: '`option redispatch 1`',
  },
  DOCTOR_HAPROXY_GONE: {
    problem: 'current HAProxy does not support this',
    fix: 'remove it; for least response time use the agent check',
  },
  DOCTOR_COMPOSE_FIXED_PORT: {
    problem: 'several copies cannot publish the same host port',
    fix: 'publish only the front’s port',
  },
  DOCTOR_COMPOSE_CONTAINER_NAME: {
    problem: 'several copies cannot share one name',
    fix: 'remove `container_name`',
  },
  DOCTOR_PM2_WAIT_READY: {
    problem: 'pm2 stops the old process as soon as the new one listens, ready or not',
    fix: '`wait_ready: true`',
  },
  DOCTOR_PM2_FORK: {
    problem: 'pm2 can replace processes behind one port only in cluster mode',
    fix: "`exec_mode: 'cluster'`",
  },
  DOCTOR_PM2_LISTEN_TIMEOUT: {
    problem: 'pm2 stops the old process before the new one reports ready',
    fix: '`listen_timeout` above FLEET_READY_TIMEOUT',
  },
  DOCTOR_SYSTEMD_KILL_MODE: {
    problem: 'systemd signals the workers too, which then close the port before the supervisor drains them',
    fix: '`KillMode=mixed`',
  },
  DOCTOR_SYSTEMD_NOTIFY_ACCESS: {
    problem: 'systemd ignores the readiness message of the child process, so the start times out',
    fix: '`NotifyAccess=all`',
  },
  DOCTOR_KUBERNETES_NO_READINESS: {
    problem: 'without a readiness probe a pod receives requests while it starts',
    fix: '`readinessProbe: { httpGet: { path: /ready, port: http } }`',
  },
  DOCTOR_REPEATED_KEY: {
    problem: 'a key occurs twice: kubectl takes the last one, other programs reject the file',
    fix: 'remove one of them',
  },
  DOCTOR_KUBERNETES_RECREATE: {
    problem: 'Recreate stops every pod before the first new one starts',
    fix: '`type: RollingUpdate`, with maxUnavailable 0',
  },
  // An instance as a whole.
  DOCTOR_READINESS_PATH: {
    problem: 'the readiness check uses the wrong path',
    fix: 'use /ready: only it responds 503 while the instance starts or drains',
  },
  DOCTOR_LIVENESS_PATH: {
    problem: 'the liveness check uses the wrong path',
    fix: 'use /live: a path that depends on Redis restarts every instance when Redis is down',
  },
  DOCTOR_TRUST_MISSING: {
    problem: 'TRUST_PROXY is not set behind a front: all clients share the front’s address and its rate limit',
    fix: 'TRUST_PROXY=<address or network of the front>',
  },
  DOCTOR_SECRET_WEAK: {
    problem: 'a secret can be guessed',
    fix: 'generate one with: openssl rand -hex 32',
  },
  DOCTOR_STATE_IN_MEMORY: {
    problem: 'several instances keep state in their own memory: sessions get lost',
    fix: 'set REDIS_URL and remove FLEET_ALLOW_MEMORY',
  },
  DOCTOR_INSTANCE_ID: {
    problem: 'all copies have the same INSTANCE_ID',
    fix: 'remove INSTANCE_ID: each copy then generates its own',
  },
  DOCTOR_SIGNALS: {
    problem: 'SIGTERM reaches a shell or a package manager, which may not forward it',
    fix: 'start Node directly: node app.js, or `exec node app.js` in a shell',
  },
  DOCTOR_VALUE: {
    problem: 'the instance will reject the value of a variable at startup',
    fix: 'see docs/environment.md',
  },
  DOCTOR_REDIS_UNREACHABLE: {
    problem: 'Redis is unreachable',
    fix: 'start it, or correct its address or password; --offline skips this check',
  },
  DOCTOR_DATABASE_UNREACHABLE: {
    problem: 'the database is unreachable',
    fix: 'start it, or correct its address; --offline skips this check',
  },
  DOCTOR_APP_START: {
    problem: 'the app does not start',
    fix: 'run `fleet doctor --app` with the environment of the deployment, or correct what the message says',
  },
  DOCTOR_SYNTAX: { problem: 'the file cannot be parsed', fix: 'correct its syntax' },
} as const
