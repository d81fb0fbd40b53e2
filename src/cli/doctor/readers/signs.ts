import type { Reading, Variable } from '../facts.ts'
import { passed, violation } from '../facts.ts'
import { secretDoubt, weakness } from '../secrets.ts'

type Env = ReadonlyMap<string, Variable>

/** What a file tells about a process. */
export interface Signs {
  readonly env: Env
  readonly command?: string
  readonly image?: string
  /** Built from sources beside the file. */
  readonly isBuilt?: boolean
}

/** Variables that no other program has. */
const ofFleet =
  /^(?:FLEET_(?:NAME|SECRET|ADMIN_\w+|AGENT_PORT|POOL|COLOR|REGION|ZONE|WEIGHT|ALLOW_MEMORY|READY_TIMEOUT|PUBLIC_PROBES|VERSION)|DRAIN_DELAY)(?:_FILE)?$/
/** Variables that an instance shares with many other programs. */
const shared = /^(?:REDIS_(?:URL|HOST)|SESSION_SECRET|JWT_SECRET|TRUST_PROXY)(?:_FILE)?$/
/** Programs that have such variables, and are no apps of the user. */
const published =
  /(?:^|\/)(?:bitnami\/.*|postgres\w*|postgis|timescaledb|redis\w*|valkey|keydb|dragonfly|memcached|nginx|haproxy|traefik|caddy|envoy|mysql|mariadb|mongo|rabbitmq|kafka|zookeeper|minio|grafana|prometheus|elasticsearch|keycloak|adminer|pgadmin4?|vault|consul|python|php|ruby|golang|openjdk|eclipse-temurin)(?::|@|$)/
const nodeCommand = /(?:^|[\s/;&|"'])(?:node|nodejs|npm|npx|yarn|pnpm|bun|tsx|pm2-runtime|fleet)(?:\s|$)/
const otherCommand =
  /(?:^|[\s/;&|"'])(?:python\d?|gunicorn|uvicorn|celery|flask|java|php(?:-fpm)?|ruby|bundle|rails|sidekiq|dotnet|mix|redis-server|postgres|nginx)(?:\s|$)/
/** Commands that end by themselves, or that nobody deploys. */
const noServer =
  /\b(?:migrate|migration|migrations|seed|prisma db|typeorm|knex|db:(?:migrate|push|seed|reset|setup)|test|lint|build|worker|queue|cron|scheduler|bootstrap|init)\b/
const development = /\b(?:dev|start:dev|develop|watch|nodemon|ts-node-dev|--watch)\b/

/** The command that a shell runs last, and that stays. */
const lastOf = (command: string): string => command.split(/&&|;/).at(-1) ?? ''

/**
 * Whether a process is an instance: `undefined` when it is not, else what that assumes, if anything. Certain are variables that no
 * other program has, and `fleet start`.
 */
export function instanceOf({
  env,
  command = '',
  image = '',
  isBuilt = false,
}: Signs): { assumed?: string } | undefined {
  const names = [...env.keys()]
  if (published.test(image) || otherCommand.test(command)) return undefined
  if (noServer.test(lastOf(command)) || development.test(command)) return undefined
  if (names.some((name) => ofFleet.test(name)) || /\bfleet\s+start\b/.test(command)) return {}
  // Other programs have a variable of this name with a unit or in seconds.
  if (/^\d{4,}$/.test(env.get('SHUTDOWN_TIMEOUT')?.value ?? '')) return {}
  const sign = names.find((name) => shared.test(name))
  const isNode = isBuilt || names.includes('NODE_ENV') || nodeCommand.test(command) || /(?:^|[/-])node\b/.test(image)
  return sign !== undefined && isNode ? { assumed: `${sign} belongs to an instance of a fleet` } : undefined
}

/** Whether the command runs a program of Node. */
export const runsNode = (command: string): boolean => nodeCommand.test(command)

/** Whether the command is for development, where signals do not matter. */
export const isDevelopment = (command: string): boolean => development.test(command)

/** Judges the secrets of what is no instance. */
export const secretsOf = (env: Env): Reading[] =>
  [...env].flatMap(([name, variable]): Reading[] => {
    if (!variable.value || !/PASSWORD|SECRET|TOKEN|URLS?$/.test(name)) return []
    const why = weakness(name, variable.value)
    if (!why) return [passed('DOCTOR_SECRET_WEAK', variable)]
    return [violation('DOCTOR_SECRET_WEAK', variable, `${name}: ${why}`, { assumed: secretDoubt(variable.file) })]
  })
