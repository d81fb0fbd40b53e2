import './cleanup.ts'
import { chmodSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { launch, temporaryFolder } from '../../src/cli/up/child.ts'
import { type Program, provide } from '../../src/cli/up/install.ts'
import { probePort, type Server, startServer } from '../../src/cli/up/server.ts'

export interface CustomFront {
  port: number
  config: string
}

/** Starts a front with a configuration of the test, stopped at the end of the file at the latest. */
export async function startCustomFront(
  kind: Program,
  { port, config }: CustomFront,
  argv: (folder: string, config: string) => readonly string[],
): Promise<Server> {
  const program = await provide(kind)
  const folder = temporaryFolder('front')
  // Workers run as another user when this one is root.
  if (process.getuid?.() === 0) chmodSync(folder, 0o711)
  const file = join(folder, 'front.conf')
  writeFileSync(file, config)
  return startServer({
    title: kind.title,
    port,
    folder,
    program,
    start: () => launch(program, argv(folder, file), { cwd: folder }),
    isUp: () => probePort(port),
  })
}
