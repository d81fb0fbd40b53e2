import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseAllDocuments } from 'yaml'
import { findProgram } from '../../src/cli/up/find.ts'

const program = findProgram(['kustomize', 'kubectl'])

export const manifests: string = fileURLToPath(new URL('../../deploy/kubernetes', import.meta.url))

export interface KubernetesObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels?: Record<string, string> }
  // biome-ignore lint/suspicious/noExplicitAny: tests access known fields
  readonly spec?: any
  readonly data?: Record<string, string>
}

export const buildText = (folder: string): string => run(join(manifests, folder))

/** The output of `overlays/prod` of a copy of the manifests, with these components instead of its own. */
export function buildWith(components: readonly string[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-kustomize-'))
  try {
    cpSync(manifests, folder, { recursive: true })
    const file = join(folder, 'overlays/prod/kustomization.yml')
    const list = components.map((name) => `\n  - ../../components/${name}`).join('')
    const text = readFileSync(file, 'utf8')
    writeFileSync(file, text.replace(/(?<=^components:)(?:\n {2}.*)+/m, list))
    return run(join(folder, 'overlays/prod'))
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Runs kustomize on any folder. */
export function run(path: string): string {
  const args = program?.endsWith('kustomize') ? ['build', path] : ['kustomize', path]
  return execFileSync(program as string, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] })
}

function knowsComponents(): boolean {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-kustomize-'))
  const part = 'apiVersion: kustomize.config.k8s.io/v1alpha1\nkind: Component\n'
  try {
    mkdirSync(join(folder, 'part'))
    writeFileSync(join(folder, 'kustomization.yml'), 'components: [part]\n')
    writeFileSync(join(folder, 'part/kustomization.yml'), `${part}configMapGenerator: [{ name: a, literals: [b=c] }]\n`)
    return run(folder).includes('ConfigMap')
  } catch {
    return false
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

function reason(): string | undefined {
  if (!program) return 'neither kustomize nor kubectl is installed'
  return knowsComponents() ? undefined : `${program} knows no components`
}

/**
 * The reason why nothing can be built here, for `skip`; `undefined` if it can. No npm package ships kustomize, and
 * Debian's kubectl is from 2020, before components.
 */
export const missing: string | undefined = reason()

export const parse = (text: string): KubernetesObject[] =>
  [...parseAllDocuments(text)]
    .map((document) => document.toJS() as KubernetesObject)
    .filter((object) => object !== null)
