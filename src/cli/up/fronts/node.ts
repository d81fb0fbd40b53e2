import { extname } from 'node:path'
import { fileURLToPath } from 'node:url'
import { launch, temporaryFolder } from '../child.ts'
import { probePort, startServer } from '../server.ts'
import type { FrontKind } from './front.ts'

/** The program this is part of: a `.ts` file as it was written, a `.js` file as it is published. */
export const mainFile: string = fileURLToPath(new URL(`../../main${extname(import.meta.url)}`, import.meta.url))

/** Our own balancer, as a process of its own: `fleet balance`. */
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
      answers: () => probePort(port),
    }),
}
