import { mainFile } from '../../up/node.ts'
import type { DeployPlan, Run, Step } from '../step.ts'

export interface Pm2Options {
  /** Command that runs pm2. */
  readonly command: readonly string[]
  /** The ecosystem file. */
  readonly config: string
  /** The program of the ecosystem file, for the check before the reload. */
  readonly file: string
  /** URL of the app. */
  readonly url: string
  readonly version: string
  readonly color?: string
  /** The current version. */
  readonly before?: string
  readonly timeoutMs: number
  /** Restores the previous build, e.g. by switching a link. */
  readonly restore?: readonly string[]
}

/**
 * pm2 replaces processes one by one, but also with a broken build, so the build is checked first. A rollback restores and reloads the
 * previous build.
 */
export function pm2Rolling(options: Pm2Options): DeployPlan {
  const { command, config, file, url, version, color, before, timeoutMs, restore } = options
  const check: Run = {
    do: 'run',
    argv: [
      process.execPath,
      ...process.execArgv,
      mainFile,
      'start',
      file,
      '--check',
      '--ready-timeout',
      `${timeoutMs}`,
    ],
    // The check should time out first, because its message is better.
    timeoutMs: timeoutMs + 10_000,
  }
  const reload = (env: Record<string, string>): Run => ({
    do: 'run',
    argv: [...command, 'reload', config, '--update-env'],
    env,
    timeoutMs,
  })
  const names = { FLEET_VERSION: version, ...(color === undefined ? {} : { FLEET_COLOR: color }) }
  const ready: Step = { do: 'ready', url, version, color, timeoutMs }
  return [
    { title: `check ${file}`, steps: [{ ...check, env: names }], undo: [] },
    {
      title: `reload ${config}`,
      steps: [reload(names), ready],
      undo: restore
        ? [{ do: 'run', argv: restore, timeoutMs }, reload(before === undefined ? {} : { FLEET_VERSION: before })]
        : [],
    },
  ]
}
