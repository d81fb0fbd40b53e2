import { dirname } from 'node:path'
import type { Source } from '../facts.ts'
import { printed } from './run.ts'

/** A named kustomization becomes what `kubectl kustomize` prints, whose lines are those of its output. */
export async function kustomize(source: Source): Promise<Source> {
  const folder = dirname(source.file)
  const output = (await printed('kubectl', ['kustomize', folder])) ?? (await printed('kustomize', ['build', folder]))
  if (output?.stdout === undefined)
    return { ...source, evaluated: { error: output?.error ?? 'kubectl is not installed' } }
  return { file: `${source.file} (kubectl kustomize)`, text: output.stdout, kind: 'kubernetes', named: true }
}
