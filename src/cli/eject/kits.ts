import type { Project } from './project.ts'
import { composeFor, stackFor } from './yaml.ts'

/** A text of a shipped file and its replacement, in the syntax of `String.prototype.replace`. */
export type Fill = readonly [file: RegExp, from: RegExp, to: (project: Project) => string]

export interface Kit {
  /** Files and folders of this package, with their names in the project if they differ. */
  readonly paths: readonly (string | readonly [from: string, to: (project: Project) => string])[]
  /** Only for projects with migrations. */
  readonly withDatabase?: readonly string[]
  readonly fills: readonly Fill[]
  /** Replaces scalars of YAML files. @returns `undefined` to keep a value */
  readonly adaptYaml?: (key: string, value: string, project: Project) => string | undefined
  /** A file whose structure changes. */
  readonly adapt?: Readonly<Record<string, (text: string, project: Project) => string>>
  /** Next steps, one per line. */
  readonly next: (project: Project) => readonly string[]
}

const nginx = ['nginx', 'scripts/nginx-render', 'scripts/make-dev-certs']
const haproxy = ['haproxy', 'scripts/haproxy-render']
const observability = ['deploy/observability']

/** The names of Kubernetes objects and images. */
function objectNames(key: string, value: string, { name }: Project): string | undefined {
  if (key === 'secretName') return value === 'fleet-tls' ? `${name}-tls` : undefined
  if (/^(?:name|image)$/.test(key) && value === 'fastify-fleet') return name
  if (key === 'labelSelector') return value.replace(/=fleet$/, `=${name}`)
  const isName = /^(?:name|serviceAccountName|app\.kubernetes\.io\/(?:name|part-of)|FLEET_NAME|namespace)$/.test(key)
  return isName && /^fleet(?:-canary|-dev|-v2)?$/.test(value) ? value.replace('fleet', name) : undefined
}

export const kits: Readonly<Record<string, Kit>> = {
  nginx: {
    paths: nginx,
    fills: [],
    next: () => [
      "FLEET_TARGETS='127.0.0.1:4001 127.0.0.1:4002' scripts/nginx-render /etc/fleet",
      'nginx -p /etc/fleet -c /etc/fleet/nginx.conf',
      'each instance: TRUST_PROXY=<address of nginx>',
    ],
  },
  haproxy: {
    paths: haproxy,
    fills: [],
    next: () => [
      "LB_SERVERS='127.0.0.1:4001:5001 127.0.0.1:4002:5002' scripts/haproxy-render /etc/fleet",
      'LB_STATS_PASSWORD=$(openssl rand -hex 16) haproxy -W -db -f /etc/fleet/haproxy.cfg',
      'each instance: TRUST_PROXY=<address of HAProxy> FLEET_AGENT_PORT=<port of its own>',
    ],
  },
  compose: {
    paths: [
      'docker-compose.loadbalancer.yml',
      ['deploy/compose/app.Dockerfile', () => 'Dockerfile'],
      ['deploy/compose/app.dockerignore', () => '.dockerignore'],
      'deploy/compose/secrets.sh',
      'deploy/swarm',
      'scripts/swarm-deploy',
      'nginx',
      'scripts/nginx-render',
      ...haproxy,
      ...observability,
    ],
    withDatabase: ['primary', 'replica', 'start'].map((name) => `deploy/compose/postgres-${name}.sh`),
    fills: [
      [/^Dockerfile$/, /CMD \["node", "app\.js"\]/, ({ app }) => `CMD ["node", "${app}"]`],
      [/^Dockerfile$/, /docker build -t fastify-fleet/, ({ name }) => `docker build -t ${name}`],
    ],
    adapt: { 'docker-compose.loadbalancer.yml': composeFor, 'deploy/swarm/stack.yml': stackFor },
    next: ({ migrates }) => [
      ...(migrates
        ? ['Dockerfile: have Prisma’s client made before `COPY . .` is run, if yours is not kept in the repository']
        : []),
      'docker compose -f docker-compose.loadbalancer.yml up -d --wait',
      'npx fleet test http://127.0.0.1:8080',
    ],
  },
  pm2: {
    paths: ['ecosystem.config.cjs', 'ecosystem.config.js'],
    fills: [
      [/^ecosystem/, /script: '\.\/src\/app\/main\.ts'/, ({ app }) => `script: './${app}'`],
      [/^ecosystem/, /fleet start \.\/src\/app\/main\.ts --check/, ({ app }) => `fleet start ./${app} --check`],
      [/^ecosystem/, /name: 'fleet'/, ({ name }) => `name: '${name}'`],
    ],
    next: ({ app }) => [
      `npx fleet start ./${app} --check && pm2 start`,
      'later: the same with `pm2 reload ecosystem.config.cjs`',
    ],
  },
  systemd: {
    paths: [['deploy/systemd/fastify-fleet.service', ({ name }) => `deploy/systemd/${name}.service`]],
    fills: [
      [/\.service$/, /fleet start app\.js/, ({ app }) => `fleet start ${app}`],
      [/\.service$/, /Description=Fastify app \(fastify-fleet\)/, ({ name }) => `Description=${name}`],
      [
        /\.service$/,
        /^(?!Documentation=)(.*[ /=])fastify-fleet(?=\.service|\.env|\/control|$| {2})/gm,
        ({ name }) => `$1${name}`,
      ],
    ],
    next: ({ name }) => [
      `secrets and addresses into /etc/${name}.env, readable by root alone`,
      `cp deploy/systemd/${name}.service /etc/systemd/system/ && systemctl enable --now ${name}`,
      `a new build: systemctl reload ${name}`,
    ],
  },
  kubernetes: {
    paths: ['deploy/kubernetes'],
    adaptYaml: objectNames,
    fills: [
      [/kustomization\.yml$/, /registry\.example\.com\/fleet/, ({ name }) => `registry.example.com/${name}`],
      [/(?:ingress|httproute|gateway\/v2)\.yml$/, /fleet\.example\.com/g, ({ host }) => host],
      [/plain-http\.yml$/, /fleet\.localhost/, ({ name }) => `${name}.localhost`],
      // Comments with commands.
      [
        /kustomization\.yml$|secret\.template\.yml$/,
        /(-n |generic |deployment\/|namespace )fleet\b/g,
        ({ name }) => `$1${name}`,
      ],
    ],
    next: ({ name, migrates }) => [
      ...(migrates
        ? []
        : [
            'deploy/kubernetes/overlays/prod/kustomization.yml: take the component `migrate` out, there are no migrations',
          ]),
      'overlays/prod/kustomization.yml: your image · pool/ingress.yml: your host name',
      `kubectl create namespace ${name}, then the Secret: deploy/kubernetes/base/secret.template.yml`,
      'kubectl kustomize deploy/kubernetes/overlays/prod | npx fleet doctor -',
      'kubectl apply -k deploy/kubernetes/overlays/prod',
    ],
  },
  aws: {
    paths: ['deploy/aws'],
    fills: [[/variables\.tf$/, /(default {5}= )"fleet"/, ({ name }) => `$1"${name}"`]],
    next: () => [
      'cd deploy/aws && terraform init && terraform plan   (it asks for what has no default)',
      'after each change of a timeout: terraform plan -out plan && terraform show -json plan > plan.json && npx fleet doctor plan.json',
    ],
  },
  cloudflare: {
    paths: ['deploy/cloudflare'],
    fills: [[/variables\.tf$/, /(default {5}= )"fleet"/, ({ name }) => `$1"${name}"`]],
    next: () => ['export CLOUDFLARE_API_TOKEN=…', 'cd deploy/cloudflare && terraform init && terraform plan'],
  },
  observability: {
    paths: observability,
    fills: [],
    next: () => [
      'deploy/observability/prometheus.yml: where your instances are, and the file with FLEET_ADMIN_TOKEN',
      'promtool test rules deploy/observability/tests/*.yml',
    ],
  },
}
