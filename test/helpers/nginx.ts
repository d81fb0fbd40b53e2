import './cleanup.ts'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { provide } from '../../src/cli/up/install.ts'
import { nginxProgram } from '../../src/cli/up/nginx.ts'
import { probePort, type Server, startServer } from '../../src/cli/up/server.ts'

/** Starts an nginx with a configuration of the test, stopped at the end of the file at the latest. */
export async function startNginx({ port, config }: { port: number; config: string }): Promise<Server> {
  const program = await provide(nginxProgram)
  const folder = temporaryFolder('nginx')
  if (process.getuid?.() === 0) chmodSync(folder, 0o711)
  const main = join(folder, 'nginx.conf')
  writeFileSync(main, config)
  return startServer({
    title: 'nginx',
    port,
    folder,
    program,
    start: () => launch(program, ['-p', folder, '-c', main, '-e', 'stderr', '-g', 'daemon off;'], { cwd: folder }),
    isUp: () => probePort(port),
  })
}
