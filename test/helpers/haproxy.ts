import { haproxyProgram } from '../../src/cli/up/haproxy.ts'
import type { Server } from '../../src/cli/up/server.ts'
import { type CustomFront, startCustomFront } from './custom-front.ts'

/** Starts HAProxy with a configuration of the test, stopped at the end of the file at the latest. */
export const startHaproxy = (front: CustomFront): Promise<Server> =>
  startCustomFront(haproxyProgram, front, (_, file) => ['-W', '-db', '-f', file])
