import { freePort } from '../../../src/cli/up/port.ts'

console.log(JSON.stringify([await freePort(), await freePort(3), await freePort()]))
setInterval(() => {}, 60_000)
