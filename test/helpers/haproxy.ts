import './cleanup.ts'

/** Starts a HAProxy for a test file, stopped at the end of the file at the latest. */
export { startHaproxy } from '../../src/cli/up/haproxy.ts'
