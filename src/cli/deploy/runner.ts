import { FleetError } from '../../base/errors.ts'
import type { PostedKind } from '../../state/history/events.ts'
import { type Output, plural } from '../output.ts'
import { perform, type Secrets } from './perform.ts'
import { type DeployPlan, describe, type Stage } from './step.ts'

/** Tells the fleet's dashboard. */
export type Report = (kind: PostedKind, text: string) => void

/**
 * Executes a plan. When a step fails, its stage and the previous ones are undone in reverse order.
 *
 * @throws FLEET_ERR_DEPLOY_FAILED after a rollback, FLEET_ERR_ROLLBACK_FAILED when the rollback failed too
 */
export async function execute(
  plan: DeployPlan,
  out: Output,
  secrets: Secrets,
  report: Report = () => {},
): Promise<void> {
  const begun: Stage[] = []
  const since = performance.now()
  if (plan.length > 0) report('deploy-started', plural(plan.length, 'step'))
  for (const stage of plan) {
    begun.push(stage)
    report('deploy-step', `${begun.length} of ${plan.length}: ${stage.title}`)
    const progress = out.progress(stage.title)
    try {
      for (const step of stage.steps) await perform(step, secrets)
      progress.done()
    } catch (error) {
      progress.fail()
      const why = (error as Error).message
      out.note(`rolling back: ${why}`)
      report('deploy-failed', `${stage.title}: ${why}`)
      const broken = await rollBack(begun, secrets)
      report('rolled-back', broken.length === 0 ? 'the previous version serves' : `incomplete: ${broken.join('; ')}`)
      if (broken.length === 0) throw new FleetError('FLEET_ERR_DEPLOY_FAILED', `${stage.title}: ${why}`)
      const detail = `${broken.join('; ')}. The rollback was caused by: ${why}`
      throw new FleetError('FLEET_ERR_ROLLBACK_FAILED', detail)
    }
  }
  const seconds = Math.round((performance.now() - since) / 1_000)
  if (plan.length > 0) report('deploy-finished', `${plural(plan.length, 'step')} in ${seconds} s`)
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
