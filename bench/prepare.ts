import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { dirname } from 'node:path'

/** A run may take an hour, and may have another beside it. */
const keptMs = 4 * 3_600_000

const at = (path: string): string => new URL(path, import.meta.url).pathname

/** Installs the peers, exactly as the lock file has them, unless that was done already. */
export function installPeers(note: (text: string) => void): void {
  const lock = createHash('sha256')
    .update(readFileSync(at('package-lock.json')))
    .digest('hex')
  const stamp = at('node_modules/.installed')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === lock) return
  note('installing what is compared with: npm ci --prefix bench')
  const done = spawnSync('npm', ['ci', '--prefix', at('.'), '--ignore-scripts', '--no-audit', '--no-fund'], {
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (done.status !== 0) throw new Error('npm ci --prefix bench failed')
  writeFileSync(stamp, lock)
}

/**
 * Builds the product as it is published, and puts it where `npm install` would: what it needs is shared with the app and
 * the peers, as in a project of its users. Runs beside this one keep the build they started with.
 */
export function buildProduct(): void {
  const builds = at('node_modules/.fleet')
  const target = `${builds}/${Date.now()}`
  mkdirSync(target, { recursive: true })
  const tsc = at('../node_modules/typescript/bin/tsc')
  // Types are checked by `npm test`; here only what runs matters.
  const args = [tsc, '-p', at('../tsconfig.build.json'), '--noCheck', '--outDir', `${target}/dist`]
  const built = spawnSync(process.execPath, args, { encoding: 'utf8' })
  if (built.status !== 0) throw new Error(`the product does not build:\n${built.stdout}`)
  cpSync(at('../package.json'), `${target}/package.json`)
  cpSync(at('../src/dashboard/assets'), `${target}/dist/dashboard/assets`, { recursive: true })
  const link = at('node_modules/fastify-fleet')
  mkdirSync(dirname(link), { recursive: true })
  const fresh = `${link}.${process.pid}`
  symlinkSync(target, fresh)
  renameSync(fresh, link)
  for (const name of readdirSync(builds)) {
    if (Date.now() - Number(name) > keptMs) rmSync(`${builds}/${name}`, { recursive: true, force: true })
  }
}
