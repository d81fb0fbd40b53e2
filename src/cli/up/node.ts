import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { launch, temporaryFolder } from './child.ts'
import type { FrontKind } from './front.ts'
import { probePort, startServer } from './server.ts'

/** The entry of this CLI: `.ts` in the source, `.js` in the package. */
export const mainFile: string = fileURLToPath(new URL(`../main${extname(import.meta.url)}`, import.meta.url))

/** The built-in balancer as a separate process: `fleet balance`. */
export const nodeFront: FrontKind = {
  title: 'fleet balance',
  start: ({ port, instances }) =>
    startServer({
      title: 'fleet balance',
      port,
      folder: temporaryFolder('node'),
      program: process.execPath,
      start: () =>
        launch(process.execPath, [
          ...[...process.execArgv, mainFile, 'balance', '--listen', `127.0.0.1:${port}`],
          ...instances.flatMap((instance) => ['--target', `http://127.0.0.1:${instance}`]),
        ]),
      isUp: () => probePort(port),
    }),
}
