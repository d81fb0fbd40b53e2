import type { InstanceFacts, Variable } from '../facts.ts'
import { asList, asMap, asText, type Path } from '../yaml-file.ts'
import type { KubernetesObject, Named } from './kubernetes-objects.ts'

export interface Environment {
  readonly env: Map<string, Variable>
  readonly unseen: InstanceFacts['unseen']
}

const references = [
  ['ConfigMap', 'configMapRef', 'configMapKeyRef'],
  ['Secret', 'secretRef', 'secretKeyRef'],
] as const

/** The environment of a container: `envFrom`, then `env`, with the values of the ConfigMaps and Secrets that were read. */
export function environmentOf(object: KubernetesObject, path: Path, named: Named): Environment {
  const env = new Map<string, Variable>()
  const missing = new Set<string>()
  for (const entry of asList(object.get([...path, 'envFrom'])))
    for (const [kind, ref] of references) {
      const from = asMap(entry) as Record<string, unknown>
      const name = asText((asMap(from[ref]) as { name?: unknown }).name)
      if (name === undefined) continue
      const found = named.get(`${kind}/${name}`)
      for (const [variable, value] of found ?? []) env.set(`${asText(from.prefix) ?? ''}${variable}`, value)
      if (!found) missing.add(kind)
    }
  for (const [index, entry] of asList(object.get([...path, 'env'])).entries()) {
    const given = asMap(entry) as { name?: unknown; value?: unknown; valueFrom?: unknown }
    const name = asText(given.name)
    if (name === undefined) continue
    const here = { file: object.file, line: object.line([...path, 'env', index]) }
    env.set(
      name,
      referred(asMap(given.valueFrom) as Record<string, unknown>, named) ?? {
        value: expanded(asText(given.value), env),
        ...here,
      },
    )
  }
  return { env, unseen: missing.has('ConfigMap') ? 'any' : missing.has('Secret') ? 'secrets' : 'none' }
}

function referred(from: Record<string, unknown>, named: Named): Variable | undefined {
  for (const [kind, , ref] of references) {
    const { name, key } = asMap(from[ref]) as { name?: unknown; key?: unknown }
    const found = named.get(`${kind}/${asText(name)}`)?.get(asText(key) ?? '')
    if (found) return found
  }
  return undefined
}

/** `$(NAME)` stands for a variable that was set before, `$$` for `$`. */
function expanded(text: string | undefined, env: ReadonlyMap<string, Variable>): string | undefined {
  if (!text?.includes('$')) return text
  let isUnknown = false
  const result = text.replace(/\$\$|\$\((\w+)\)/g, (whole, name?: string) => {
    if (name === undefined) return '$'
    const known = env.get(name)
    if (known && (known.value === undefined || known.value.length > 1_024)) isUnknown = true
    return known?.value ?? whole
  })
  return isUnknown ? undefined : result
}
