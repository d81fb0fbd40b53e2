export { freePort } from '../../src/cli/services/port.ts'
