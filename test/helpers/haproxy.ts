import './cleanup.ts'

/** A HAProxy of its own for a test file; it ends with the file at the latest. */
export { startHaproxy } from '../../src/cli/up/haproxy.ts'
