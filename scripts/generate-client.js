// Generates the Prisma client of the reference application. `npm ci` and `npm install` call it as the script
// `dependencies`, which npm runs in this repository only; `prepare` would run where the package is installed from a file too.
import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const cli = prismaCli()
// `npm ci --omit=dev` installs neither Prisma nor the reference application's other packages.
if (cli) {
  const env = {
    // Generating does not use the engine, which is for migrations. But without a path to one the CLI would download it.
    PRISMA_SCHEMA_ENGINE_BINARY: process.execPath,
    CHECKPOINT_DISABLE: '1',
    PRISMA_HIDE_UPDATE_MESSAGE: '1',
    ...process.env,
  }
  const { status } = spawnSync(process.execPath, [cli, 'generate'], { cwd: root, env, stdio: 'inherit' })
  process.exitCode = status ?? 1
}

function prismaCli() {
  try {
    const manifest = createRequire(import.meta.url).resolve('prisma/package.json')
    return join(dirname(manifest), 'build/index.js')
  } catch {
    return undefined
  }
}
