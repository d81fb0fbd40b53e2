import { duration } from '../durations.ts'
import {
  type Fact,
  type FrontFacts,
  factAt,
  type InstanceFacts,
  isInstance,
  type Place,
  type Reader,
  type Reading,
  type Variable,
  violation,
} from '../facts.ts'
import { asCommand, asList, asMap, asNumber, asText, type Path, parseYaml, type YamlDocument } from '../yaml-file.ts'

/** Kubernetes’ own default. */
const defaultGraceMs = 30_000
/**
 * From the deletion of a pod until every node and Ingress has removed it. Kubernetes guarantees no time; its documentation of
 * pod termination assumes a few seconds.
 */
const endpointsMs = 5_000
const workloads = new Set(['Deployment', 'StatefulSet', 'DaemonSet'])

type Named = ReadonlyMap<string, ReadonlyMap<string, Variable>>

/** Reads all files together, because a Deployment takes variables from a ConfigMap and a Secret. */
export const readKubernetes: Reader = (sources) => {
  const documents = sources.flatMap(parseYaml)
  const named = new Map(documents.flatMap((document) => variables(document)))
  return documents.flatMap((document): Reading[] => {
    const kind = String(document.get(['kind']))
    if (workloads.has(kind)) return readWorkload(document, named)
    if (kind === 'Ingress') return readIngress(document)
    if (kind === 'ConfigMap') return readController(document)
    if (kind === 'Secret') return secrets(document, named)
    return []
  })
}

const nameOf = (document: YamlDocument): string => `${document.get(['kind'])}/${document.get(['metadata', 'name'])}`

/** The variables of a ConfigMap or a Secret, by its kind and name. */
function variables(document: YamlDocument): [string, ReadonlyMap<string, Variable>][] {
  const kind = document.get(['kind'])
  if (kind !== 'ConfigMap' && kind !== 'Secret') return []
  const found = new Map<string, Variable>()
  for (const section of ['data', 'stringData']) {
    for (const [name, value] of Object.entries(asMap(document.get([section])))) {
      const text =
        kind === 'Secret' && section === 'data' ? Buffer.from(String(value), 'base64').toString() : String(value)
      found.set(name, { value: text, file: document.file, line: document.line([section, name]) })
    }
  }
  return [[nameOf(document), found]]
}

function secrets(document: YamlDocument, named: Named): Reading[] {
  const name = nameOf(document)
  const env = named.get(name) ?? new Map()
  const { file } = document
  return [{ role: 'instance', source: 'kubernetes', name, file, line: document.line(['kind']), env, unseen: 'any' }]
}

function readWorkload(document: YamlDocument, named: Named): Reading[] {
  const pod = ['spec', 'template', 'spec']
  const containers = document.get([...pod, 'containers'])
  if (!Array.isArray(containers)) return []
  return containers.flatMap((_, index) => readContainer(document, pod, [...pod, 'containers', index], named))
}

function readContainer(document: YamlDocument, pod: Path, path: Path, named: Named): Reading[] {
  const { env, unseen } = environment(document, path, named)
  const asksReadiness = document.get([...path, 'readinessProbe', 'httpGet']) !== undefined
  if (!asksReadiness && !isInstance(env)) return []
  const at = <T>(key: Path, parse: (value: unknown) => T | undefined): Fact<T> | undefined =>
    document.fact([...path, ...key], parse)
  const here: Place = { file: document.file, line: document.line(path) }
  const readings: Reading[] = []
  const strategy = document.fact(['spec', 'strategy', 'type'], asText)
  if (strategy?.value === 'Recreate') readings.push(violation('DOCTOR_KUBERNETES_RECREATE', strategy, nameOf(document)))
  if (document.get([...path, 'readinessProbe']) === undefined)
    readings.push(violation('DOCTOR_KUBERNETES_NO_READINESS', here, nameOf(document)))

  const grace = document.fact([...pod, 'terminationGracePeriodSeconds'], asNumber)
  const sleep =
    at(['lifecycle', 'preStop', 'sleep', 'seconds'], asNumber) ??
    at(['lifecycle', 'preStop', 'exec', 'command'], sleeps)
  const copies = document.fact(['spec', 'replicas'], asNumber)
  const instance: InstanceFacts = {
    role: 'instance',
    source: 'kubernetes',
    name: nameOf(document),
    ...here,
    env,
    unseen,
    graceMs: grace ? { ...grace, value: grace.value * 1_000 } : factAt(defaultGraceMs, here),
    preStopMs: sleep && { ...sleep, value: sleep.value * 1_000 },
    copies,
    command: at(['command'], asCommand),
    readiness: at(['readinessProbe', 'httpGet', 'path'], asText),
    liveness: at(['livenessProbe', 'httpGet', 'path'], asText),
  }
  const service: FrontFacts = {
    role: 'front',
    source: 'ingress',
    name: `endpoints of ${nameOf(document)}`,
    ...here,
    noticeMs: factAt(endpointsMs, sleep ?? here),
  }
  return [...readings, instance, service]
}

/** `["sleep", "5"]`, `["sh", "-c", "sleep 5"]`, `["node", "-e", "setTimeout(…, 5000)"]`. */
function sleeps(value: unknown): number | undefined {
  const command = asCommand(value) ?? ''
  const seconds = /\bsleep\s+(\d+)/.exec(command)?.[1]
  const ms = /setTimeout\([^,]{0,500},\s{0,9}(\d+)/.exec(command)?.[1]
  if (seconds) return Number(seconds)
  return ms ? Number(ms) / 1_000 : undefined
}

function environment(
  document: YamlDocument,
  path: Path,
  named: Named,
): { env: Map<string, Variable>; unseen: InstanceFacts['unseen'] } {
  const env = new Map<string, Variable>()
  const missing = new Set<string>()
  for (const [index] of asList(document.get([...path, 'envFrom'])).entries()) {
    for (const [kind, ref] of [
      ['ConfigMap', 'configMapRef'],
      ['Secret', 'secretRef'],
    ] as const) {
      const name = document.get([...path, 'envFrom', index, ref, 'name'])
      if (name === undefined) continue
      const found = named.get(`${kind}/${name}`)
      for (const [variable, value] of found ?? []) env.set(variable, value)
      if (!found) missing.add(kind)
    }
  }
  for (const [index, entry] of asList(document.get([...path, 'env'])).entries()) {
    const { name: given, value } = (entry ?? {}) as { name?: unknown; value?: unknown }
    const name = asText(given)
    if (name) env.set(name, { value: asText(value), file: document.file, line: document.line([...path, 'env', index]) })
  }
  const unseen = missing.has('ConfigMap') ? 'any' : missing.has('Secret') ? 'secrets' : 'none'
  return { env, unseen }
}

function readIngress(document: YamlDocument): Reading[] {
  const name = 'nginx.ingress.kubernetes.io/proxy-next-upstream'
  const retries = document.fact(['metadata', 'annotations', name], asText)
  if (!retries?.value.includes('non_idempotent')) return []
  return [violation('DOCTOR_REPEATS_POSTS', retries)]
}

/** The ConfigMap of the ingress-nginx controller. */
function readController(document: YamlDocument): Reading[] {
  const idle = document.fact(['data', 'upstream-keepalive-timeout'], (value) => duration(String(value)))
  const name = nameOf(document)
  if (!idle) return []
  return [{ role: 'front', source: 'ingress', name, file: document.file, line: idle.line, idleMs: idle }]
}
