export { freePort } from '../../src/cli/up/port.ts'
