import { missing, releases, startFront } from '../haproxy/haproxy.ts'
import { badBuilds, crashes, drains, kills, lazy, lazyFleet, type ProvenFront, reloads, restarts } from './fronts.ts'
import { prove } from './prove.ts'

const fleetOf = lazyFleet(800)

for (const [index, release] of [releases[0], releases[1]].entries()) {
  const version = release ? release.version.split('.').slice(0, 2).join('.') : '3.2'
  /** The shipped configuration. */
  const frontOf = lazy(async (): Promise<ProvenFront> => {
    const { env } = await fleetOf()
    if (!release) throw new Error(missing)
    const front = await startFront(release, { ...env, LB_RATE: '1000000', LB_RATE_TARPIT: '1000000' })
    return {
      port: Number(new URL(front.url).port),
      checks: true,
      reload: () => front.reload(),
      kill: () => front.kill(),
      restart: () => front.restart(),
    }
  })
  const starts = async () => ({ fleet: await fleetOf(), front: await frontOf() })
  const each =
    (body: typeof restarts): Parameters<typeof prove>[2] =>
    async (proof) => {
      if (!release) proof.skip(missing ?? '')
      await body(proof, starts)
    }
  // Quickly, the installed release shows everything, and the other one what differs most.
  const other = { fullOnly: index > 0 }

  for (let part = 1; part <= 5; part++)
    prove(`rolling restart behind HAProxy ${version}, part ${part} of 5`, 'rolling-restart', each(restarts), {
      fullOnly: part > 1,
    })
  prove(`kill -9 of instances behind HAProxy ${version}`, 'kill-haproxy', each(kills), other)
  prove(`drain and undrain behind HAProxy ${version}`, 'drain', each(drains), other)
  prove(`bad builds behind HAProxy ${version}`, 'bad-build', each(badBuilds), other)
  prove(`reloads of HAProxy ${version}`, 'reload-haproxy', each(reloads), other)
  prove(`kill -9 of HAProxy ${version}`, 'front-killed', each(crashes), other)
}
