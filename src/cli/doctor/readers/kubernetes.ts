import { duration } from '../durations.ts'
import {
  type Fact,
  type FrontFacts,
  factAt,
  type InstanceFacts,
  type Place,
  probedPath,
  type Reader,
  type Reading,
  unjudged,
  violation,
} from '../facts.ts'
import { asCommand, asList, asMap, asNumber, asText, type Path, parseYaml, type YamlDocument } from '../yaml-file.ts'
import { environmentOf } from './kubernetes-environment.ts'
import { type KubernetesObject, type Named, namedVariables, objectsOf } from './kubernetes-objects.ts'
import { commandOf } from './process-one.ts'
import { instanceOf, isDevelopment, secretsOf } from './signs.ts'

/** Kubernetes’ own default. */
const defaultGraceMs = 30_000
/**
 * From the deletion of a pod until every node and Ingress has removed it. Kubernetes guarantees no time; its documentation of
 * pod termination assumes a few seconds.
 */
const endpointsMs = 5_000

/** Where each kind of workload has its pod. Jobs end by themselves: they are no instances. */
const pods: Readonly<Record<string, Path>> = {
  Deployment: ['spec', 'template', 'spec'],
  StatefulSet: ['spec', 'template', 'spec'],
  DaemonSet: ['spec', 'template', 'spec'],
  ReplicaSet: ['spec', 'template', 'spec'],
  ReplicationController: ['spec', 'template', 'spec'],
  DeploymentConfig: ['spec', 'template', 'spec'],
  Rollout: ['spec', 'template', 'spec'],
  Pod: ['spec'],
}

/** Reads all files together, because a Deployment takes variables from a ConfigMap and a Secret. */
export const readKubernetes: Reader = (sources) => {
  const documents = sources.flatMap((source) => parseYaml(source, { repeats: true }))
  const objects = objectsOf(documents)
  const named = namedVariables(objects)
  const readings = [
    ...documents.flatMap(repeatedIn),
    ...objects.flatMap((object) => readObject(object, named, objects)),
  ]
  const heard = new Set(readings.map(({ file }) => file))
  const silent = sources.map(({ file }) => file).filter((file) => !heard.has(file))
  const nothing = 'it has no workload, ConfigMap or Ingress with anything to check'
  return [...readings, ...silent.map((file) => unjudged({ file, line: 1 }, nothing))]
}

/** kubectl takes the last value and prints a warning, which is right if it is the one that was meant. */
const repeatedIn = ({ file, repeated }: YamlDocument): Reading[] =>
  repeated.map(({ key, line }) =>
    violation('DOCTOR_REPEATED_KEY', { file, line }, key, { assumed: 'the other value was meant, too' }),
  )

function readObject(object: KubernetesObject, named: Named, all: readonly KubernetesObject[]): Reading[] {
  const { kind, title } = object
  if (kind === 'Ingress') return readIngress(object)
  if (kind === 'ConfigMap') return readController(object)
  if (kind === 'Secret') return secretsOf(named.get(title) ?? new Map())
  const pod = Object.hasOwn(pods, kind) ? pods[kind] : undefined
  if (!pod) return []
  const containers = object.get([...pod, 'containers'])
  if (!Array.isArray(containers))
    return [unjudged({ file: object.file, line: object.line(['kind']) }, `${title} has no containers here`)]
  const copies = copiesOf(object, all)
  return containers.flatMap((_, index) => readContainer(object, pod, [...pod, 'containers', index], named, copies))
}

/** `replicas`, or what an autoscaler may make of it. A DaemonSet has one pod per node. */
function copiesOf(object: KubernetesObject, all: readonly KubernetesObject[]): Fact<number> | undefined {
  if (object.kind === 'DaemonSet') return factAt(2, { file: object.file, line: object.line(['kind']) })
  const scaler = all.find(
    (one) =>
      one.kind === 'HorizontalPodAutoscaler' &&
      one.get(['spec', 'scaleTargetRef', 'name']) === object.name &&
      one.get(['spec', 'scaleTargetRef', 'kind']) === object.kind,
  )
  const most = scaler?.fact(['spec', 'maxReplicas'], asNumber)
  const own = object.fact(['spec', 'replicas'], asNumber)
  return own && (own.value > 1 || !most) ? own : most
}

function readContainer(
  object: KubernetesObject,
  pod: Path,
  path: Path,
  named: Named,
  copies: Fact<number> | undefined,
): Reading[] {
  const { title, file } = object
  const at = <T>(key: Path, parse: (value: unknown) => T | undefined): Fact<T> | undefined =>
    object.fact([...path, ...key], parse)
  const here: Place = { file, line: object.line(path) }
  const { env, unseen } = environmentOf(object, path, named)
  const command = commandFact(object, path)
  const image = asText(object.get([...path, 'image']))
  const [readiness, liveness] = ['readinessProbe', 'livenessProbe'].map((probe) => pathOf(object, [...path, probe]))
  const hasOurPaths = /\/ready$/.test(readiness?.value ?? '') && /\/(?:live|alive)$/.test(liveness?.value ?? '')
  const isLikely = hasOurPaths || (image === undefined && readiness !== undefined)
  const instance =
    instanceOf({ env, command: command?.value, image, isBuilt: image === undefined }) ??
    (isLikely ? { assumed: 'the container is an instance of a fleet' } : undefined)
  if (!instance) return [unjudged(here, `${title}: the container is no instance of a fleet`), ...secretsOf(env)]

  const readings: Reading[] = []
  const strategy = object.fact(['spec', 'strategy', 'type'], asText)
  const volumes = asList(object.get([...pod, 'volumes'])).map(asMap)
  if (strategy?.value === 'Recreate' && !volumes.some((volume) => 'persistentVolumeClaim' in volume))
    readings.push(violation('DOCTOR_KUBERNETES_RECREATE', strategy, title, instance))
  if (object.get([...path, 'readinessProbe']) === undefined)
    readings.push(violation('DOCTOR_KUBERNETES_NO_READINESS', here, title, instance))
  const preStopMs = preStopOf(object, [...path, 'lifecycle', 'preStop'])
  const facts: InstanceFacts = {
    role: 'instance',
    source: 'kubernetes',
    name: title,
    ...here,
    ...instance,
    env,
    unseen,
    graceMs: graceOf(object, pod, here),
    preStopMs,
    copies,
    command: command && !isDevelopment(command.value) ? command : undefined,
    readiness,
    liveness,
  }
  const service: FrontFacts = {
    role: 'front',
    source: 'ingress',
    name: `endpoints of ${title}`,
    ...here,
    noticeMs: factAt(endpointsMs, at(['lifecycle', 'preStop'], asMap) ? (preStopMs ?? here) : here),
  }
  return [...readings, facts, service]
}

/** `command` replaces the ENTRYPOINT of the image, `args` its CMD. */
function commandFact(object: KubernetesObject, path: Path): Fact<string> | undefined {
  const [command, args] = ['command', 'args'].map((key) => object.fact([...path, key], asList))
  const text = commandOf([...(command?.value ?? []), ...(args?.value ?? [])].map(String))
  const at = command ?? args
  return at && text !== undefined ? factAt(text, at) : undefined
}

/** The path of a probe over HTTP, or by a command. */
const pathOf = (object: KubernetesObject, probe: Path): Fact<string> | undefined =>
  object.fact([...probe, 'httpGet', 'path'], asText) ??
  object.fact([...probe, 'exec', 'command'], (command) => probedPath(asCommand(command) ?? ''))

function graceOf(object: KubernetesObject, pod: Path, here: Place): Fact<number> {
  const grace = object.fact([...pod, 'terminationGracePeriodSeconds'], asNumber)
  if (!grace) return { ...factAt(defaultGraceMs, here), default: 'Kubernetes’ default' }
  const from = `terminationGracePeriodSeconds: ${grace.value}`
  const write = (ms: number) => ({ from, to: `terminationGracePeriodSeconds: ${Math.ceil(ms / 1_000)}` })
  const isOnce = object.text(grace.line).split(from).length === 2
  return { ...grace, value: grace.value * 1_000, ...(isOnce && { write }) }
}

function preStopOf(object: KubernetesObject, path: Path): Fact<number> | undefined {
  const sleep =
    object.fact([...path, 'sleep', 'seconds'], asNumber) ?? object.fact([...path, 'exec', 'command'], sleeps)
  return sleep && { ...sleep, value: sleep.value * 1_000 }
}

/** `["sleep", "5"]`, `["sh", "-c", "sleep 5"]`, `["node", "-e", "setTimeout(…, 5000)"]`. */
function sleeps(value: unknown): number | undefined {
  const command = asCommand(value) ?? ''
  const seconds = /\bsleep\s+(\d+)/.exec(command)?.[1]
  const ms = /setTimeout\([^,]{0,500},\s{0,9}(\d+)/.exec(command)?.[1]
  if (seconds) return Number(seconds)
  return ms ? Number(ms) / 1_000 : undefined
}

function readIngress(object: KubernetesObject): Reading[] {
  const name = 'nginx.ingress.kubernetes.io/proxy-next-upstream'
  const retries = object.fact(['metadata', 'annotations', name], asText)
  if (!retries?.value.includes('non_idempotent')) return []
  return [violation('DOCTOR_REPEATS_POSTS', retries)]
}

/** The ConfigMap of the ingress-nginx controller. */
function readController(object: KubernetesObject): Reading[] {
  const idle = object.fact(['data', 'upstream-keepalive-timeout'], (value) => duration(String(value)))
  if (!idle) return []
  return [{ role: 'front', source: 'ingress', name: object.title, file: object.file, line: idle.line, idleMs: idle }]
}
