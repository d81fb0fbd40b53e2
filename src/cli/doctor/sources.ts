import type { RuleCode } from './rules.ts'
import type { TimeoutCode } from './timeout-rules.ts'

const proxy = 'https://nginx.org/en/docs/http/ngx_http_proxy_module.html'
const upstream = 'https://nginx.org/en/docs/http/ngx_http_upstream_module.html'
const haproxy = 'https://docs.haproxy.org/3.2/configuration.html'
const compose = 'https://docs.docker.com/reference/compose-file/services/'
const kubernetes = 'https://kubernetes.io/docs'
const pm2 = 'https://pm2.keymetrics.io/docs/usage'
const systemd = 'https://www.freedesktop.org/software/systemd/man/latest'
const fastify = 'https://fastify.dev/docs/latest/Reference/Server/'
const aws = 'https://docs.aws.amazon.com/elasticloadbalancing/latest/application'

/** Where a rule is documented, by code. */
export const sources: Readonly<Record<string, readonly string[]>> = {
  DOCTOR_KEEPALIVE: [
    `${fastify}#keepalivetimeout`,
    `${upstream}#keepalive_timeout`,
    `${haproxy}#timeout%20http-keep-alive`,
  ],
  DOCTOR_NOTICE: [`${haproxy}#5.2-inter`, `${kubernetes}/concepts/workloads/pods/pod-lifecycle/#pod-termination`],
  DOCTOR_AVOID: [`${upstream}#fail_timeout`],
  DOCTOR_SHUTDOWN: [`${kubernetes}/concepts/workloads/pods/pod-lifecycle/#pod-termination`],
  DOCTOR_GRACE: [
    `${compose}#stop_grace_period`,
    `${systemd}/systemd.service.html#TimeoutStopSec=`,
    `${kubernetes}/concepts/workloads/pods/pod-lifecycle/#pod-termination`,
  ],
  DOCTOR_DEREGISTER: [`${aws}/edit-target-group-attributes.html#deregistration-delay`],
  DOCTOR_TRUST_EVERYONE: [`${fastify}#trustproxy`],
  DOCTOR_FRONT_ADDRESS: [`${fastify}#trustproxy`, `${proxy}#proxy_set_header`, `${haproxy}#option%20forwardfor`],
  DOCTOR_FRONT_PROTOCOL: [`${fastify}#trustproxy`, `${proxy}#proxy_set_header`],
  DOCTOR_PROBE_ANSWERED_BY_FRONT: [`${haproxy}#monitor-uri`],
  DOCTOR_REPEATS_POSTS: [`${proxy}#proxy_next_upstream`],
  DOCTOR_NGINX_CONNECTION: [`${upstream}#keepalive`, 'https://nginx.org/en/docs/http/websocket.html'],
  DOCTOR_NGINX_NO_KEEPALIVE: [`${upstream}#keepalive`],
  DOCTOR_NGINX_HTTP_VERSION: [`${proxy}#proxy_http_version`],
  DOCTOR_NGINX_BACKUP: [`${upstream}#server`],
  DOCTOR_NGINX_PLUS: [`${upstream}#server`],
  DOCTOR_HAPROXY_NO_CHECK: [`${haproxy}#5.2-check`],
  DOCTOR_HAPROXY_NO_HTTPCHK: [`${haproxy}#option%20httpchk`],
  DOCTOR_HAPROXY_OPEN_STATS: [`${haproxy}#stats%20auth`],
  DOCTOR_HAPROXY_STATS_ADMIN: [`${haproxy}#stats%20admin`],
  DOCTOR_HAPROXY_REPEATS_POSTS: [`${haproxy}#retry-on`],
  DOCTOR_HAPROXY_REDISPATCH: [`${haproxy}#option%20redispatch`],
  DOCTOR_HAPROXY_GONE: [haproxy],
  DOCTOR_COMPOSE_FIXED_PORT: [`${compose}#ports`],
  DOCTOR_COMPOSE_CONTAINER_NAME: [`${compose}#container_name`],
  DOCTOR_PM2_WAIT_READY: [`${pm2}/signals-clean-restart/`],
  DOCTOR_PM2_FORK: [`${pm2}/cluster-mode/`],
  DOCTOR_PM2_LISTEN_TIMEOUT: [`${pm2}/signals-clean-restart/`],
  DOCTOR_APP_START: [fastify],
  DOCTOR_SYSTEMD_KILL_MODE: [`${systemd}/systemd.kill.html#KillMode=`],
  DOCTOR_SYSTEMD_NOTIFY_ACCESS: [`${systemd}/systemd.service.html#NotifyAccess=`],
  DOCTOR_KUBERNETES_NO_READINESS: [`${kubernetes}/concepts/configuration/liveness-readiness-startup-probes/`],
  DOCTOR_REPEATED_KEY: ['https://yaml.org/spec/1.2.2/#3211-nodes'],
  DOCTOR_KUBERNETES_RECREATE: [`${kubernetes}/concepts/workloads/controllers/deployment/#strategy`],
  DOCTOR_READINESS_PATH: [`${kubernetes}/concepts/configuration/liveness-readiness-startup-probes/`],
  DOCTOR_LIVENESS_PATH: [`${kubernetes}/concepts/configuration/liveness-readiness-startup-probes/`],
  DOCTOR_TRUST_MISSING: [`${fastify}#trustproxy`],
  DOCTOR_SECRET_WEAK: ['https://cheatsheetseries.owasp.org/cheatsheets/Secrets_Management_Cheat_Sheet.html'],
  DOCTOR_STATE_IN_MEMORY: ['https://12factor.net/processes'],
  DOCTOR_INSTANCE_ID: ['https://12factor.net/processes'],
  DOCTOR_SIGNALS: ['https://docs.docker.com/reference/dockerfile/#exec-form-entrypoint-example'],
  DOCTOR_VALUE: [],
  DOCTOR_REDIS_UNREACHABLE: ['https://redis.io/docs/latest/commands/ping/'],
  DOCTOR_DATABASE_UNREACHABLE: ['https://www.postgresql.org/docs/current/runtime-config-connection.html'],
  DOCTOR_SYNTAX: [],
} satisfies Record<RuleCode | TimeoutCode, readonly string[]>
