import { nginxProgram } from '../../src/cli/up/nginx.ts'
import type { Server } from '../../src/cli/up/server.ts'
import { type CustomFront, startCustomFront } from './custom-front.ts'

/** Starts an nginx with a configuration of the test, stopped at the end of the file at the latest. */
export const startNginx = (front: CustomFront): Promise<Server> =>
  startCustomFront(nginxProgram, front, (folder, file) => {
    return ['-p', folder, '-c', file, '-e', 'stderr', '-g', 'daemon off;']
  })
