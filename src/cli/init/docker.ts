import { lstatSync } from 'node:fs'
import { join } from 'node:path'
import { assets } from '../eject/eject.ts'
import type { Kit } from '../eject/kits.ts'
import { kits } from '../eject/kits.ts'
import type { Project } from '../eject/project.ts'
import { type Change, newFile } from './change.ts'

/** An image of the app, and a compose file with three instances, the built-in load balancer and Redis. */
const kit: Kit = {
  paths: [
    ['deploy/compose/app.Dockerfile', () => 'Dockerfile'],
    ['deploy/compose/app.dockerignore', () => '.dockerignore'],
    ['examples/compose/compose.yml', () => 'compose.yml'],
  ],
  fills: [
    ...(kits.compose?.fills ?? []),
    [
      /^compose\.yml$/,
      /is in \.env, see README\.md\./,
      () => 'is in .env: echo "SESSION_SECRET=$(openssl rand -hex 32)" >> .env',
    ],
  ],
  adaptYaml: (key, value, { name }) => (key === 'name' && value === 'shop' ? name : undefined),
  next: () => [],
}

/** Existing files are kept. */
export const dockerChanges = (project: Project): Change[] =>
  assets(kit, project)
    .filter(({ file }) => !lstatSync(join(project.folder, file), { throwIfNoEntry: false }))
    .map(({ file, text }) => newFile(file, text))
