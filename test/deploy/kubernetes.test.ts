import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { after, describe, it } from 'node:test'
import { examine } from '../../src/cli/doctor/run.ts'
import { compile, validate } from './kubernetes-schemas.ts'
import { buildText, buildWith, type KubernetesObject, manifests, missing, parse } from './kustomize.ts'

const shipped = ['base', 'overlays/dev', 'overlays/prod', 'canary'] as const
/** `overlays/prod` with other components. */
const composed = {
  'prod with pools': ['pools', 'migrate', 'monitoring'],
  'prod with pools behind a Gateway': ['pools', 'pools/gateway', 'migrate', 'monitoring'],
} as const
const overlays = [...shipped, ...(Object.keys(composed) as (keyof typeof composed)[])] as const
type Overlay = (typeof overlays)[number]

const find = (objects: readonly KubernetesObject[], kind: string): KubernetesObject => {
  const found = objects.find((object) => object.kind === kind)
  assert.ok(found, `no ${kind}`)
  return found
}

describe('each manifest alone', () => {
  const files = readdirSync(manifests, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.yml'))
  const whole = files.filter(
    (file) => !/overlays|components\/migrate/.test(file) && basename(file) !== 'kustomization.yml',
  )

  it('is valid against the schema of its kind', async () => {
    assert.ok(whole.length >= 11)
    for (const file of whole) {
      for (const object of parse(readFileSync(join(manifests, file), 'utf8'))) {
        await validate(object).catch((error) => assert.fail(`${file}: ${error.message}`))
      }
    }
  })

  it('a wrong type, a missing field and an unknown one are detected', async () => {
    const [deployment] = parse(readFileSync(join(manifests, 'app/deployment.yml'), 'utf8'))
    assert.ok(deployment)
    const wrong = (spec: object): KubernetesObject => ({ ...deployment, spec: { ...deployment.spec, ...spec } })
    await assert.rejects(validate(wrong({ minReadySeconds: 'five' })), /minReadySeconds/)
    await assert.rejects(validate(wrong({ template: undefined })), /template/)
    assert.match(compile([wrong({ minReadySecond: 5 })]), /minReadySecond/)
  })
})

describe('the output of kustomize', { skip: missing }, () => {
  const built = new Map<Overlay, string>()
  const textOf = (overlay: Overlay): string => {
    const text =
      built.get(overlay) ??
      (overlay in composed ? buildWith(composed[overlay as keyof typeof composed]) : buildText(overlay))
    built.set(overlay, text)
    return text
  }
  const of = (overlay: Overlay): KubernetesObject[] => parse(textOf(overlay))

  for (const overlay of overlays) {
    it(`${overlay} is valid against the schemas`, async () => {
      for (const object of of(overlay)) {
        await validate(object).catch((error) => assert.fail(`${object.kind} ${object.metadata.name}: ${error.message}`))
      }
    })
  }

  it('has no unknown field', () => {
    assert.equal(compile(overlays.flatMap(of)), '')
  })

  it('dev and prod contain every object of a fleet', () => {
    const common = [
      'ConfigMap',
      'Deployment',
      'HorizontalPodAutoscaler',
      'Ingress',
      'NetworkPolicy',
      'PodDisruptionBudget',
      'Service',
      'ServiceAccount',
    ]
    assert.deepEqual(
      of('overlays/dev')
        .map(({ kind }) => kind)
        .sort(),
      common,
    )
    assert.deepEqual(
      of('overlays/prod')
        .map(({ kind }) => kind)
        .sort(),
      [...common, 'ServiceMonitor'].sort(),
    )
    for (const folder of ['dev', 'prod'] as const)
      for (const { metadata } of of(`overlays/${folder}`))
        assert.equal(metadata.namespace, folder === 'dev' ? 'fleet-dev' : 'fleet')
  })

  it('selectors match labels, references match names, ports match ports', () => {
    for (const overlay of ['base', 'overlays/dev', 'overlays/prod'] as const) {
      const objects = of(overlay)
      const { spec } = find(objects, 'Deployment')
      const labels: Record<string, string> = spec.template.metadata.labels
      const meets = (selector: Record<string, string>): boolean =>
        Object.entries(selector).every(([key, value]) => labels[key] === value)
      for (const selector of [
        spec.selector.matchLabels,
        find(objects, 'Service').spec.selector,
        find(objects, 'PodDisruptionBudget').spec.selector.matchLabels,
        find(objects, 'NetworkPolicy').spec.podSelector.matchLabels,
        ...spec.template.spec.topologySpreadConstraints.map(
          (one: { labelSelector: { matchLabels: object } }) => one.labelSelector.matchLabels,
        ),
      ])
        assert.ok(meets(selector), JSON.stringify(selector))

      const names = objects.map(({ kind, metadata }) => `${kind}/${metadata.name}`)
      const [container] = spec.template.spec.containers
      const refers = [
        `ConfigMap/${container.envFrom[0].configMapRef.name}`,
        `ServiceAccount/${spec.template.spec.serviceAccountName}`,
        `Deployment/${find(objects, 'HorizontalPodAutoscaler').spec.scaleTargetRef.name}`,
        `Service/${find(objects, 'Ingress').spec.rules[0].http.paths[0].backend.service.name}`,
      ]
      for (const reference of refers) assert.ok(names.includes(reference), reference)
      const [port, management] = container.ports
      const { data } = find(objects, 'ConfigMap')
      for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
        assert.equal(container[probe].httpGet.port, management.name)
      assert.deepEqual(
        find(objects, 'Service').spec.ports.map(({ targetPort }: { targetPort: string }) => targetPort),
        [port.name],
        'no Service leads to the management port',
      )
      assert.equal(data?.PORT, String(port.containerPort))
      assert.equal(data?.FLEET_ADMIN_PORT, String(management.containerPort))
      const ingress: { from: object[]; ports: { port: string }[] }[] = find(objects, 'NetworkPolicy').spec.ingress
      const reachedBy = (name: string): string =>
        JSON.stringify(ingress.filter(({ ports }) => ports.some((one) => one.port === name)).map(({ from }) => from))
      assert.match(reachedBy(port.name), /ingress-nginx/)
      assert.doesNotMatch(reachedBy(management.name), /ingress-nginx/)
      const monitor = objects.find(({ kind }) => kind === 'ServiceMonitor')
      if (monitor) assert.equal(monitor.spec.endpoints[0].targetPort, management.name)
    }
  })

  it('the stable Service does not select the canary, and the route has both', () => {
    const canary = of('canary')
    const stable = find(of('base'), 'Service').spec.selector
    const labels = find(canary, 'Deployment').spec.template.metadata.labels
    assert.ok(Object.entries(stable).some(([key, value]) => labels[key] !== value))
    assert.deepEqual(
      Object.entries(find(canary, 'Service').spec.selector).filter(([key, value]) => labels[key] !== value),
      [],
    )
    const services = [find(of('base'), 'Service'), find(canary, 'Service')].map(({ metadata }) => metadata.name)
    const { backendRefs } = find(canary, 'HTTPRoute').spec.rules[0]
    assert.deepEqual(
      backendRefs.map(({ name }: { name: string }) => name),
      services,
    )
  })

  describe('with pools', () => {
    type Labels = Readonly<Record<string, string>>
    const kindOf = (overlay: Overlay, wanted: string): KubernetesObject[] =>
      of(overlay).filter(({ kind }) => kind === wanted)
    const podsOf = (overlay: Overlay, selector: Labels): string[] =>
      kindOf(overlay, 'Deployment')
        .filter(({ spec }) => {
          const labels: Labels = spec.template.metadata.labels
          return Object.entries(selector).every(([key, value]) => labels[key] === value)
        })
        .map(({ metadata }) => metadata.name)

    it('has every object of a pool, and each selects only its own pods', () => {
      const overlay = 'prod with pools'
      for (const name of ['fleet', 'fleet-v2']) {
        const object = (kind: string): KubernetesObject => {
          const found = kindOf(overlay, kind).find(({ metadata }) => metadata.name === name)
          assert.ok(found, `${kind} ${name}`)
          return found
        }
        const { spec } = object('Deployment')
        for (const selector of [
          spec.selector.matchLabels,
          object('Service').spec.selector,
          object('PodDisruptionBudget').spec.selector.matchLabels,
          object('NetworkPolicy').spec.podSelector.matchLabels,
          ...spec.template.spec.topologySpreadConstraints.map(
            (one: { labelSelector: { matchLabels: Labels } }) => one.labelSelector.matchLabels,
          ),
        ])
          assert.deepEqual(podsOf(overlay, selector), [name], JSON.stringify(selector))
        const scaler = object('HorizontalPodAutoscaler').spec
        assert.equal(scaler.scaleTargetRef.name, name)
        assert.deepEqual(
          scaler.metrics.map(({ type }: { type: string }) => type),
          ['Resource', 'Pods'],
        )
        const [path] = object('Ingress').spec.rules[0].http.paths
        assert.deepEqual(
          [path.path, path.pathType, path.backend.service.name],
          [name === 'fleet' ? '/' : '/api/v2', 'Prefix', name],
        )
        assert.match(spec.template.spec.containers[0].image, /^registry\.example\.com\/fleet:/)
        assert.deepEqual(
          spec.template.spec.initContainers.map(({ name }: { name: string }) => name),
          ['migrate'],
        )
        // Names of the cluster's own pods are not a pool's.
        assert.doesNotMatch(JSON.stringify(object('NetworkPolicy').spec.egress), /fleet/)
      }
      const env = kindOf(overlay, 'Deployment').map(({ spec }) => spec.template.spec.containers[0].env)
      assert.deepEqual(env, [undefined, [{ name: 'FLEET_POOL', value: 'v2' }]])
      const [monitor] = kindOf(overlay, 'ServiceMonitor')
      for (const { metadata } of kindOf(overlay, 'Service'))
        for (const [label, value] of Object.entries<string>(monitor?.spec.selector.matchLabels))
          assert.equal(metadata.labels?.[label], value)
    })

    it('routes by path and header with the Gateway API, without the pool’s Ingress', () => {
      const overlay = 'prod with pools behind a Gateway'
      assert.deepEqual(
        kindOf(overlay, 'Ingress').map(({ metadata }) => metadata.name),
        ['fleet'],
      )
      const [route] = kindOf(overlay, 'HTTPRoute')
      const [{ matches, backendRefs }] = route?.spec.rules ?? []
      assert.deepEqual(matches[0].path, { type: 'PathPrefix', value: '/api/v2' })
      assert.deepEqual(matches[1].headers, [{ name: 'x-version', value: '2' }])
      assert.deepEqual(backendRefs, [{ name: 'fleet-v2', port: 80 }])
    })

    it('limits connections and requests per client in each pool', () => {
      for (const { metadata } of kindOf('prod with pools', 'Ingress')) {
        const annotations = (metadata as unknown as { annotations: Labels }).annotations
        assert.equal(annotations['nginx.ingress.kubernetes.io/limit-connections'], '100')
        assert.equal(annotations['nginx.ingress.kubernetes.io/limit-rps'], '100')
      }
    })
  })

  it('no container runs as root, writes to its root or gains privileges; each has requests and a memory limit', () => {
    for (const overlay of overlays) {
      const pods = of(overlay).filter(({ kind }) => kind === 'Deployment')
      assert.ok(pods.length > 0)
      for (const pod of pods.map(({ spec }) => spec.template.spec)) {
        assert.equal(pod.securityContext.runAsNonRoot, true)
        assert.equal(pod.securityContext.seccompProfile.type, 'RuntimeDefault')
        for (const { securityContext, resources } of [...pod.containers, ...(pod.initContainers ?? [])]) {
          assert.equal(securityContext.readOnlyRootFilesystem, true)
          assert.equal(securityContext.allowPrivilegeEscalation, false)
          assert.deepEqual(securityContext.capabilities.drop, ['ALL'])
          assert.ok(resources.requests.cpu && resources.requests.memory && resources.limits.memory)
        }
      }
    }
  })

  it('passes fleet doctor, as applied', async () => {
    for (const overlay of overlays) {
      const { findings, read } = await examine([{ file: '-', text: textOf(overlay) }], {
        longestMs: 10_000,
        connect: false,
      })
      assert.equal(read.length, 1)
      assert.deepEqual(findings, [])
    }
  })

  after(() => built.clear())
})
