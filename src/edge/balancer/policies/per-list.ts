import type { Target } from '../target.ts'

/**
 * Caches what a policy derives from a list of targets for as long as the list is in use. Lists never change in place (see
 * policy.ts), so the array itself is the key.
 */
export function perList<T>(derive: (targets: readonly Target[]) => T): (targets: readonly Target[]) => T {
  const kept = new WeakMap<readonly Target[], T>()
  let lastList: readonly Target[] | undefined
  let last: T | undefined
  return (targets) => {
    if (targets !== lastList) {
      last = kept.get(targets)
      if (last === undefined) {
        last = derive(targets)
        kept.set(targets, last as T)
      }
      lastList = targets
    }
    return last as T
  }
}
