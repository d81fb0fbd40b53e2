import './cleanup.ts'
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { haproxyProgram } from '../../src/cli/up/haproxy.ts'
import { provide } from '../../src/cli/up/install.ts'
import { probePort, type Server, startServer } from '../../src/cli/up/server.ts'

/** Starts HAProxy with a configuration of the test, stopped at the end of the file at the latest. */
export async function startHaproxy({ port, config }: { port: number; config: string }): Promise<Server> {
  const program = await provide(haproxyProgram)
  const folder = temporaryFolder('haproxy')
  const main = join(folder, 'haproxy.cfg')
  writeFileSync(main, config)
  return startServer({
    title: 'HAProxy',
    port,
    folder,
    program,
    start: () => launch(program, ['-W', '-db', '-f', main], { cwd: folder }),
    isUp: () => probePort(port),
  })
}
