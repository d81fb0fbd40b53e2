import { probePort, startServer } from '../../src/cli/up/server.ts'
import { forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { badBuilds, crashes, drains, kills, lazy, lazyFleet, type ProvenFront, restarts } from './fronts.ts'
import { prove } from './prove.ts'

const program = new URL('../../src/cli/main.ts', import.meta.url).pathname

for (const { title, options, drainDelayMs, layer4 } of [
  { title: 'fleet balance', options: [], drainDelayMs: 200, layer4: false },
  // On layer 4 only probes detect a drain, which come every second.
  { title: 'fleet balance --tcp', options: ['--tcp'], drainDelayMs: 1_500, layer4: true },
]) {
  const fleetOf = lazyFleet(drainDelayMs)
  const frontOf = lazy(async (): Promise<ProvenFront> => {
    const { members } = await fleetOf()
    const port = await freePort()
    const targets = members.flatMap(({ url }) => ['--target', url])
    const server = await startServer({
      title,
      port,
      folder: '',
      program,
      start: () => forkApp(program, { args: ['balance', ...options, '--listen', `127.0.0.1:${port}`, ...targets] }),
      isUp: () => probePort(port),
    })
    return { port, layer4, checks: true, kill: () => server.kill('SIGKILL'), restart: () => server.restart() }
  })
  const starts = async () => ({ fleet: await fleetOf(), front: await frontOf() })
  const each =
    (body: typeof restarts): Parameters<typeof prove>[2] =>
    (proof) =>
      body(proof, starts)

  for (let part = 1; part <= 5; part++)
    prove(`rolling restart behind ${title}, part ${part} of 5`, 'rolling-restart', each(restarts), {
      fullOnly: part > 1,
    })
  prove(`kill -9 of instances behind ${title}`, 'kill-built-in', each(kills))
  // On layer 4 probes do the same for these as on layer 7.
  const other = { fullOnly: layer4 }
  prove(`drain and undrain behind ${title}`, 'drain', each(drains), other)
  prove(`bad builds behind ${title}`, 'bad-build', each(badBuilds), other)
  prove(`kill -9 of ${title}`, 'front-killed', each(crashes), other)
}
