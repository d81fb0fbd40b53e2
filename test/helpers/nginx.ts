import './cleanup.ts'

/** An nginx of its own for a test file; it ends with the file at the latest. */
export { startNginx } from '../../src/cli/up/nginx.ts'
