import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { examine } from '../../src/cli/doctor/run.ts'
import { compile, validate } from '../deploy/kubernetes-schemas.ts'
import { examples } from './installed.ts'
import { container, find, manifestFiles, manifests, pod, podEnv } from './kubernetes-pod.ts'

describe('the manifests of examples/kubernetes', () => {
  it('are valid against the schemas of Kubernetes, without an unknown field', async () => {
    assert.deepEqual(manifests.map(({ kind }) => kind).sort(), [
      'Deployment',
      'HorizontalPodAutoscaler',
      'PodDisruptionBudget',
      'Service',
    ])
    for (const object of manifests) await validate(object)
    assert.equal(compile(manifests), '')
  })

  it('select the pods of the Deployment, by their labels and its name', () => {
    const { metadata, spec } = find('Deployment')
    const { labels } = spec.template.metadata
    for (const selector of [
      spec.selector.matchLabels,
      find('Service').spec.selector,
      find('PodDisruptionBudget').spec.selector.matchLabels,
    ])
      assert.deepEqual(selector, labels)
    const { apiVersion, kind, name } = find('HorizontalPodAutoscaler').spec.scaleTargetRef
    assert.deepEqual([apiVersion, kind, name], ['apps/v1', 'Deployment', metadata.name])
  })

  it('have the ports of the app: probes use the management port, the Service does not', () => {
    const [http, management] = container.ports
    assert.equal(podEnv.PORT, String(http.containerPort))
    assert.equal(podEnv.FLEET_ADMIN_PORT, String(management.containerPort))
    for (const probe of ['startupProbe', 'livenessProbe', 'readinessProbe'])
      assert.equal(container[probe].httpGet.port, management.name)
    assert.deepEqual(
      find('Service').spec.ports.map(({ targetPort }: { targetPort: string }) => targetPort),
      [http.name],
    )
  })

  it('take the address of Redis and the secret of sessions from the Secret that the README creates', () => {
    const readme = readFileSync(join(examples, 'kubernetes/README.md'), 'utf8')
    const [, secret] = /create secret generic (\S+)/.exec(readme) ?? []
    const keys = [...readme.matchAll(/--from-literal=(\w+)=/g)].map(([, key]) => key)
    const references = container.env.flatMap(({ valueFrom }: { valueFrom?: { secretKeyRef: object } }) =>
      valueFrom ? [valueFrom.secretKeyRef] : [],
    )
    assert.deepEqual(
      references,
      keys.map((key) => ({ name: secret, key })),
    )
  })

  it('give a pod time to stop: preStop and the shutdown end before SIGKILL, and the doctor finds nothing', async () => {
    const { preStop } = container.lifecycle
    const stops = preStop.sleep.seconds + Number(podEnv.SHUTDOWN_TIMEOUT) / 1000
    assert.ok(Number(podEnv.DRAIN_DELAY) < Number(podEnv.SHUTDOWN_TIMEOUT))
    assert.ok(stops + 2 <= pod.terminationGracePeriodSeconds)
    const sources = manifestFiles.map((file) => ({ file, text: readFileSync(file, 'utf8') }))
    const { findings, read } = await examine(sources, { longestMs: 10_000, connect: false })
    assert.ok(read.length > 0)
    assert.deepEqual(findings, [])
  })

  it('run the image that the test of examples/compose builds', () => {
    const dockerfiles = ['kubernetes', 'compose'].map((name) =>
      readFileSync(join(examples, name, 'Dockerfile'), 'utf8'),
    )
    assert.equal(dockerfiles[0], dockerfiles[1])
  })
})
