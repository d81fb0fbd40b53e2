import { mainFile } from '../../up/fronts/node.ts'
import type { Plan, Run, Step } from '../step.ts'

export interface Pm2Options {
  /** How pm2 is called. */
  readonly command: readonly string[]
  /** The ecosystem file. */
  readonly config: string
  /** The program that the ecosystem file runs, for the check before. */
  readonly file: string
  /** Where the app responses. */
  readonly url: string
  readonly version: string
  readonly color?: string
  /** The version that answers now. */
  readonly before?: string
  readonly timeoutMs: number
  /** Puts the build of before back in its place, e.g. by switching a link. */
  readonly restore?: readonly string[]
}

/**
 * pm2 replaces one process after the other by itself, but not only by good ones: so the build is checked first. What
 * pm2 has already begun is taken back by reloading the build of before.
 */
export function pm2Rolling(options: Pm2Options): Plan {
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
    // The check's own bound is what should be heard of.
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
