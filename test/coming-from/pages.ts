import assert from 'node:assert/strict'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { type App, forkApp } from '../helpers/fork-app.ts'
import { freePort } from '../helpers/free-port.ts'
import { npm } from '../helpers/packed.ts'
import { until } from '../helpers/until.ts'
import { patientEnv } from '../state/redis/patience.ts'

// The files of docs/coming-from: blocks of code below a comment `<!-- types only: NAME, run by test/coming-from -->`.

const root = fileURLToPath(new URL('../..', import.meta.url))
export const secret = 'a secret for tests of more than 32 bytes'

/** The blocks of a page by their file names. */
export function filesOf(page: string): Record<string, string> {
  const text = readFileSync(join(root, 'docs/coming-from', page), 'utf8')
  const blocks = text.matchAll(/^<!-- types only: (\S+), run by test\/coming-from -->\n```\w+\n([\s\S]*?)^```$/gm)
  return Object.fromEntries([...blocks].map(([, name, code]) => [name, code]))
}

/** The rows of the table below a heading of a page, as text. */
export function tableOf(page: string, heading: string): string[][] {
  const [, below = ''] = readFileSync(join(root, 'docs/coming-from', page), 'utf8').split(`\n## ${heading}\n`)
  const [section = ''] = below.split('\n## ')
  const rows = [...section.matchAll(/^\|(.*)\|$/gm)].map(([, row = '']) => row.split('|').map((cell) => cell.trim()))
  return rows.slice(2)
}

const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const sources = Object.entries<{ default?: string }>(manifest.exports).flatMap(([name, { default: file }]) =>
  file
    ? [
        [
          `fastify-fleet${name.slice(1)}`,
          pathToFileURL(join(root, file.replace('/dist/', '/src/').replace(/\.js$/, '.ts'))).href,
        ],
      ]
    : [],
)

/** Resolves fastify-fleet to its sources, and what is not installed in the folder to the packages of this project. */
const hooks = `
import { registerHooks } from 'node:module'
const sources = new Map(${JSON.stringify(sources)})
registerHooks({
  resolve(specifier, context, next) {
    const url = sources.get(specifier)
    if (url) return { url, shortCircuit: true }
    try {
      return next(specifier, context)
    } catch (error) {
      if (!/^[@a-z]/.test(specifier)) throw error
      return next(specifier, { ...context, parentURL: ${JSON.stringify(pathToFileURL(root).href)} })
    }
  },
})
`

/** A folder with the packages that the apps of the pages need and this project does not have. */
export class Project {
  readonly folder: string = temporaryFolder('coming-from')
  /** Options of Node.js for programs that import fastify-fleet. */
  readonly hooks: string = `--import=${pathToFileURL(join(this.folder, 'hooks.mjs')).href}`

  private constructor() {
    writeFileSync(join(this.folder, 'package.json'), '{"private":true,"type":"module"}')
    writeFileSync(join(this.folder, 'hooks.mjs'), hooks)
  }

  static async with(packages: readonly string[]): Promise<Project> {
    const project = new Project()
    const options = ['--prefer-offline', '--no-audit', '--no-fund', '--ignore-scripts']
    if (packages.length > 0) await npm(['install', ...options, ...packages], project.folder)
    return project
  }

  /** Writes the files of a page, and others, into a folder of their own. */
  write(page: string, more: Record<string, string> = {}): string {
    const folder = join(this.folder, `${page}-${Math.random().toString(36).slice(2)}`)
    for (const [name, code] of Object.entries({ ...filesOf(page), ...more })) {
      mkdirSync(dirname(join(folder, name)), { recursive: true })
      writeFileSync(join(folder, name), code)
    }
    return folder
  }

  /** Starts a program and waits until it responds. */
  async start(file: string, env: Record<string, string | undefined> = {}): Promise<Running> {
    const port = await freePort()
    const common = { PORT: port, SESSION_SECRET: secret, JWT_SECRET: secret, LOG_LEVEL: 'error', ...patientEnv }
    const app = forkApp(file, { cwd: dirname(file), env: { ...common, ...env }, execArgv: [this.hooks] })
    const url = `http://127.0.0.1:${port}`
    const responds = (): Promise<true> => fetch(`${url}/unknown`).then(() => true)
    await until(() => app.ended !== undefined || responds(), { what: `a response of ${file}` })
    assert.equal(app.ended, undefined, app.stderr)
    return { app, url, port }
  }
}

export interface Running {
  readonly app: App
  readonly url: string
  readonly port: number
}

/** A browser: keeps cookies, whichever instance sent them. */
export class Browser {
  readonly cookies: Map<string, string>

  constructor(cookies: ReadonlyMap<string, string> = new Map()) {
    this.cookies = new Map(cookies)
  }

  async send(url: string, body?: object): Promise<{ status: number; body: unknown }> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const json = body && { method: 'POST', body: JSON.stringify(body) }
    const headers = { cookie, ...(body && { 'content-type': 'application/json' }) }
    const response = await fetch(url, { ...json, headers })
    for (const [pair = ''] of response.headers.getSetCookie().map((text) => text.split(';'))) {
      const [name = '', value = ''] = pair.split(/=(.*)/)
      this.cookies.set(name, value)
    }
    return { status: response.status, body: await response.json() }
  }
}
