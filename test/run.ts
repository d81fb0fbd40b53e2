/** Runs every test file, those that take long first: none of them is left alone on an idle machine at the end. */

import { globSync } from 'node:fs'
import { run } from 'node:test'
import { spec } from 'node:test/reporters'

/** The longest first. An order, not a selection: whatever is not here comes after these, by name. */
const long = [
  'test/guards/package.test.ts',
  'test/haproxy/front.test.ts',
  'test/host/group.test.ts',
  'test/fleet/up.test.ts',
  'test/app/trouble.test.ts',
  'test/state/topologies.test.ts',
  'test/state/registry/registry.test.ts',
  'test/state/locks/locks.test.ts',
  'test/state/locks/failures.test.ts',
  'test/state/cache/fleet.test.ts',
  'test/state/session/tracked.test.ts',
  'test/database/migrate.test.ts',
  'test/database/own-writes.test.ts',
  'test/state/faults/failover.test.ts',
]
const files = globSync('test/**/*.test.ts').sort()

// Many of them wait for servers most of their time: more at once than there are processors keeps those busy.
run({ files: [...new Set([...long, ...files])], concurrency: 6 })
  .on('test:fail', () => {
    process.exitCode = 1
  })
  .compose(new spec())
  .pipe(process.stdout)
