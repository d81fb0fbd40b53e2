#!/usr/bin/env node
// The command `fleet`: one verb, one file in commands/, which exports a Command (args.ts): its options, its help and `run`.
//   verbs.ts     lists them
//   dispatch.ts  finds the verb, parses its options, and turns errors into messages and exit codes
//   output.ts    prints text, tables and progress, or JSON with `--json`
// The work of larger verbs is in a folder: up/, deploy/, doctor/, eject/, bench/, and smoke/ for `fleet test`. target.ts sends
// requests to a running fleet, operators.ts those that need its token, exchange.ts probes other servers.
import '../base/node-version.ts'

// `fleet ps | head` closes the pipe early, which is not an error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error
})
const [{ dispatch }, { verbs }] = await Promise.all([import('./dispatch.ts'), import('./verbs.ts')])
process.exitCode = await dispatch(verbs, process.argv.slice(2))
// A channel to a parent process, such as pm2, would keep this one alive.
if (process.connected) process.disconnect()
