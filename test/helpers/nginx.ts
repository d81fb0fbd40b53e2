import './cleanup.ts'

/** Starts an nginx for a test file, stopped at the end of the file at the latest. */
export { startNginx } from '../../src/cli/up/nginx.ts'
