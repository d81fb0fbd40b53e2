import { after } from 'node:test'
import { stopAll } from '../../src/cli/up/child.ts'

// Root-level hook of every test file that imports a helper: stops whatever its tests started after the last one.
after(() => stopAll(2000))
