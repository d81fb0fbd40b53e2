import { dictionary } from '../../base/dictionary.ts'
import { fromDns, fromRegistry, fromSrv, type RegistryOptions, type Source } from '../../edge/balancer/discovery.ts'
import { usageError } from '../args.ts'

export interface TargetOption {
  url: string
  weight?: number
  backup?: boolean
  canary?: boolean
  maxConnections?: number
}

/** @throws FLEET_ERR_USAGE */
export function parseTargetOption(text: string, name = '--target'): TargetOption {
  const [url = '', ...settings] = text.split(',')
  const options = dictionary<number | boolean>()
  for (const setting of settings) {
    const [key, value] = setting.split('=')
    if ((key === 'backup' || key === 'canary') && value === undefined) options[key] = true
    else if (key === 'weight' && /^\d+$/.test(value ?? '')) options.weight = Number(value)
    else if (key === 'max' && /^\d+$/.test(value ?? '')) options.maxConnections = Number(value)
    else throw usageError(`${name}: ${setting} must be weight=N, max=N, backup or canary`)
  }
  return { url, ...options }
}

/**
 * Targets separated by commas, each a URL or `host:port`, with its options: `a:3000,weight=50,b:3000`.
 *
 * @throws FLEET_ERR_USAGE
 */
export function parseTargetList(text: string, name: string): TargetOption[] {
  const targets: string[] = []
  for (const part of text.split(',')) {
    const last = targets.length - 1
    if (last >= 0 && /^(?:weight=|max=|backup|canary)/.test(part)) targets[last] += `,${part}`
    else targets.push(part.includes('://') ? part : `http://${part}`)
  }
  return targets.map((target) => parseTargetOption(target, name))
}

/** Whether a text names a source instead of targets. */
export const isSource = (text: string): boolean => text === 'registry' || /^(?:dns|srv)\+/.test(text)

/**
 * @param registry which instances of the registry
 * @throws FLEET_ERR_USAGE, FLEET_ERR_ENV_INVALID
 */
export function parseDiscover(text: string, registry: RegistryOptions = {}, name = '--discover'): Source {
  const [, kind, url] = /^(dns|srv)\+(https?:\/\/.+)$/.exec(text) ?? []
  if (kind && url && URL.canParse(url)) return kind === 'dns' ? fromDns(url) : fromSrv(url)
  if (text !== 'registry') {
    throw usageError(`${name} must be dns+http://NAME:PORT, srv+http://NAME or registry`)
  }
  return fromRegistry(registry)
}
