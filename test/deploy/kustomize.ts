import { execFileSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { findProgram } from '../../src/cli/services/find.ts'

const program = findProgram(['kustomize', 'kubectl'])

/**
 * Why nothing can be built here, for `skip`; `undefined` where it can. No npm package ships kustomize, and Debian's
 * kubectl is of 2020, before components.
 */
export const missing: string | undefined = program ? undefined : 'neither kustomize nor kubectl is installed'

export const manifests: string = fileURLToPath(new URL('../../deploy/kubernetes', import.meta.url))

export interface KubernetesObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> }
  // biome-ignore lint/suspicious/noExplicitAny: a test looks where it knows something to be
  readonly spec?: any
  readonly data?: Record<string, string>
}

/** What `kubectl apply -k` would send. */
export function build(folder: string): KubernetesObject[] {
  return parse(buildText(folder))
}

export const buildText = (folder: string): string => run(join(manifests, folder))

/** kustomize, of a folder anywhere. */
export function run(path: string): string {
  const args = program?.endsWith('kustomize') ? ['build', path] : ['kustomize', path]
  return execFileSync(program as string, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

export const parse = (text: string): KubernetesObject[] =>
  [...parseAllDocuments(text)]
    .map((document) => document.toJS() as KubernetesObject)
    .filter((object) => object !== null)
