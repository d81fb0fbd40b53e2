import { isAtLeast, startFront } from '../nginx/front.ts'
import { releases } from '../nginx/releases.ts'
import { badBuilds, crashes, drains, kills, lazy, lazyFleet, type ProvenFront, reloads, restarts } from './fronts.ts'
import { prove } from './prove.ts'

const fleetOf = lazyFleet(1_000)

for (const [index, release] of releases.entries()) {
  const { version, program, missing } = release
  /** The shipped configuration. */
  const frontOf = lazy(async (): Promise<ProvenFront> => {
    const { members } = await fleetOf()
    const front = await startFront(
      {
        FLEET_TARGETS: members.map(({ port }) => `127.0.0.1:${port}`).join(),
        FLEET_ACCESS_LOG: '/dev/null',
        // Longer than DRAIN_DELAY.
        FLEET_FAIL_TIMEOUT: '2s',
      },
      program,
    )
    return {
      port: front.port,
      repeats: ['PUT', 'DELETE'],
      checks: false,
      // Earlier releases close idle connections of clients.
      onReload: (await isAtLeast([1, 27, 4], program)) ? 'mixed' : 'browser',
      reload: () => front.reload({}),
      kill: async () => {
        release.kill(front.server.pid)
        await front.server.child.exit
      },
      restart: () => front.server.restart(),
    }
  })
  const starts = async () => ({ fleet: await fleetOf(), front: await frontOf() })
  const each =
    (body: typeof restarts): Parameters<typeof prove>[2] =>
    async (proof) => {
      if (missing) proof.skip(missing)
      await body(proof, starts)
    }
  // Quickly, the installed release shows everything, and the other one what differs most.
  const other = { fullOnly: index > 0 }

  for (let part = 1; part <= 5; part++)
    prove(`rolling restart behind nginx ${version}, part ${part} of 5`, 'rolling-restart', each(restarts), {
      fullOnly: part > 1,
    })
  prove(`kill -9 of instances behind nginx ${version}`, 'kill-nginx', each(kills), other)
  prove(`drain and undrain behind nginx ${version}`, 'drain', each(drains), other)
  prove(`bad builds behind nginx ${version}`, 'bad-build', each(badBuilds), other)
  prove(`reloads of nginx ${version}`, 'reload-nginx', each(reloads))
  prove(`kill -9 of nginx ${version}`, 'front-killed', each(crashes), other)
}
