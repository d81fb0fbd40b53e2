import { after } from 'node:test'
import { stopAll } from '../../src/cli/up/child.ts'

// At the root of every test file that imports a helper: whatever its tests started ends when its last test has ended.
after(() => stopAll(2000))
