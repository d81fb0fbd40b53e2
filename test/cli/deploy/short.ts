import { type DeployPlan, describe as words } from '../../../src/cli/deploy/step.ts'

/** A short form of a plan: the text of each step and of its undo steps. */
export const short = (plan: DeployPlan): string[] =>
  plan.flatMap(({ steps, undo }) => [
    ...steps.map(words).map(brief),
    ...undo.map((step) => `  undo ${brief(words(step))}`),
  ])
const brief = (text: string): string =>
  text
    .replace(/^\$ (\w+=\S+ )*/, '')
    .replaceAll('http://127.0.0.1:', '')
    .replace(/, \d+ s at most$/, '')
    .replace(/wait until (\d+) is ready as version (\S+)/, 'ready $1 $2')
