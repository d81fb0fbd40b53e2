import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { root } from '../cli/doctor/project.ts'
import type { KubernetesObject } from './kustomize.ts'

/** The module with an object's schema and type. */
function moduleOf({ apiVersion }: KubernetesObject): string {
  if (apiVersion.startsWith('gateway.')) return `@kubernetes-models/gateway-api/${apiVersion}`
  if (apiVersion.startsWith('monitoring.')) return `@kubernetes-models/prometheus-operator/${apiVersion}`
  return `kubernetes-models/${apiVersion}`
}

type Model = new (object: KubernetesObject) => { validate(): void }

/** Rejects an object that its schema does not allow. */
export async function validate(object: KubernetesObject): Promise<void> {
  const models = (await import(moduleOf(object))) as Record<string, Model>
  const Model = models[object.kind]
  assert.ok(Model, `${object.apiVersion} has no ${object.kind}`)
  new Model(object).validate()
}

/**
 * The schemas accept unknown fields, as a server does with a warning. The types generated from them do not: an unknown
 * field in an object literal is an error. So objects become literals, and the compiler checks them.
 */
export function compile(objects: readonly KubernetesObject[]): string {
  const folder = mkdtempSync(join(tmpdir(), 'fleet-kubernetes-'))
  try {
    symlinkSync(join(root, 'node_modules'), join(folder, 'node_modules'))
    const lines = objects.flatMap((object, index) => [
      `import type { I${object.kind} as T${index} } from '${moduleOf(object)}/${object.kind}'`,
      `export const object${index}: T${index} = ${JSON.stringify(object)}`,
    ])
    writeFileSync(join(folder, 'objects.ts'), lines.join('\n'))
    const compilerOptions = {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      module: 'nodenext',
      target: 'es2024',
      types: [],
    }
    writeFileSync(join(folder, 'tsconfig.json'), JSON.stringify({ compilerOptions, files: ['objects.ts'] }))
    writeFileSync(join(folder, 'package.json'), '{"type":"module"}')
    execFileSync(join(root, 'node_modules/.bin/tsc'), ['-p', folder], { encoding: 'utf8', stdio: 'pipe' })
    return ''
  } catch (error) {
    return String((error as { stdout?: string }).stdout ?? error)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
