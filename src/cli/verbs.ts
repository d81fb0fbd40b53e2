import type { Verbs } from './args.ts'

/** The verbs, in the order of `fleet --help`. */
export const verbs: Verbs = {
  init: () => import('./commands/init.ts'),
  start: () => import('./commands/start.ts'),
  reload: () => import('./commands/reload.ts'),
  up: () => import('./commands/up.ts'),
  balance: () => import('./commands/balance.ts'),
  test: () => import('./commands/test.ts'),
  bench: () => import('./commands/bench.ts'),
  status: () => import('./commands/status.ts'),
  logs: () => import('./commands/logs.ts'),
  ps: () => import('./commands/ps.ts'),
  drain: () => import('./commands/drain.ts'),
  undrain: () => import('./commands/undrain.ts'),
  deploy: () => import('./commands/deploy.ts'),
  doctor: () => import('./commands/doctor.ts'),
  eject: () => import('./commands/eject.ts'),
  migrate: () => import('./commands/migrate.ts'),
  completion: () => import('./commands/completion.ts'),
}
