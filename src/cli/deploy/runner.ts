import { FleetError } from '../../base/errors.ts'
import type { Output } from '../output.ts'
import { perform, type Secrets } from './perform.ts'
import { type DeployPlan, describe, type Stage } from './step.ts'

/**
 * Executes a plan. When a step fails, its stage and the previous ones are undone in reverse order.
 *
 * @throws FLEET_ERR_DEPLOY_FAILED after a rollback, FLEET_ERR_ROLLBACK_FAILED when the rollback failed too
 */
export async function execute(plan: DeployPlan, out: Output, secrets: Secrets): Promise<void> {
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
      out.note(`rolling back: ${why}`)
      const broken = await rollBack(begun, secrets)
      if (broken.length === 0) throw new FleetError('FLEET_ERR_DEPLOY_FAILED', `${stage.title}: ${why}`)
      const detail = `${broken.join('; ')}. The rollback was caused by: ${why}`
      throw new FleetError('FLEET_ERR_ROLLBACK_FAILED', detail)
    }
  }
}

/** Continues after a failed step, because later steps may restore service. */
async function rollBack(begun: readonly Stage[], secrets: Secrets): Promise<string[]> {
  const broken: string[] = []
  for (const step of begun.toReversed().flatMap(({ undo }) => undo)) {
    await perform(step, secrets).catch((error: Error) => broken.push(`${describe(step)}: ${error.message}`))
  }
  return broken
}

/** Prints the plan. */
export function show(plan: DeployPlan, out: Output): void {
  if (plan.length === 0) out.line('nothing to do')
  for (const { title, steps, undo } of plan) {
    out.line(out.style('bold', title))
    for (const step of steps) out.line(`  ${describe(step)}`)
    if (undo.length === 0) continue
    out.line(out.style('dim', '  if this or a later stage fails:'))
    for (const step of undo) out.line(`    ${describe(step)}`)
  }
}
