import { launch } from './child.ts'
import { type Program, provide } from './install.ts'
import { type FrontOptions, writeConfig } from './nginx.ts'
import { probePort, type Server, startServer } from './server.ts'

export const haproxyProgram: Program = {
  title: 'HAProxy',
  names: ['haproxy'],
  apt: ['haproxy'],
  brew: 'haproxy',
}

/** Starts HAProxy in master-worker mode, so that SIGUSR2 reloads it. @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
export async function startHaproxy(options: FrontOptions): Promise<Server> {
  const { port } = options
  const program = await provide(haproxyProgram, options)
  const folder = await writeConfig('haproxy', 'haproxy.cfg', options)
  return startServer({
    title: 'HAProxy',
    port,
    folder,
    program,
    start: () => launch(program, ['-W', '-db', '-C', folder, '-f', 'haproxy.cfg'], { cwd: folder }),
    isUp: () => probePort(port),
  })
}
