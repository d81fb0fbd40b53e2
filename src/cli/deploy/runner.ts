import { FleetError } from '../../base/errors.ts'
import type { Output } from '../output.ts'
import { perform, type Secrets } from './perform.ts'
import { describe, type Plan, type Stage, type Step } from './step.ts'

/**
 * Carries out a plan. When a step fails, its stage and those before it are taken back, the last one first.
 *
 * @throws FLEET_ERR_DEPLOY_FAILED when everything has been taken back, FLEET_ERR_ROLLBACK_FAILED when that failed too
 */
export async function execute(plan: Plan, out: Output, secrets: Secrets): Promise<void> {
  const begun: Stage[] = []
  for (const stage of plan) {
    begun.push(stage)
    const progress = out.progress(stage.title)
    try {
      for (const step of stage.steps) await perform(step, secrets)
      progress.done()
    } catch (error) {
      progress.fail()
      const why = (error as Error).message
      out.note(`rolling back, because ${why}`)
      const broken = await rollBack(begun, secrets)
      if (broken.length === 0) throw new FleetError('FLEET_ERR_DEPLOY_FAILED', `${stage.title}: ${why}`)
      const detail = `${broken.join('; ')}. It was rolled back because ${why}`
      throw new FleetError('FLEET_ERR_ROLLBACK_FAILED', detail)
    }
  }
}

/** Goes on when a step fails: what comes after it may be what users need most. */
async function rollBack(begun: readonly Stage[], secrets: Secrets): Promise<string[]> {
  const broken: string[] = []
  for (const step of begun.toReversed().flatMap(({ undo }) => undo)) {
    await perform(step, secrets).catch((error: Error) => broken.push(`${describe(step)}: ${error.message}`))
  }
  return broken
}

/** The plan for people. */
export function show(plan: Plan, out: Output): void {
  if (plan.length === 0) out.line('nothing to do')
  const list = (steps: readonly Step[]): void => {
    for (const step of steps) out.line(`  ${describe(step)}`)
  }
  for (const { title, steps, undo } of plan) {
    out.line(out.style('bold', title))
    list(steps)
    if (undo.length === 0) continue
    out.line(out.style('dim', '  if this or what follows fails:'))
    for (const step of undo) out.line(`    ${describe(step)}`)
  }
}
