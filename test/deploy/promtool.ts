import '../helpers/cleanup.ts'
import { launch } from '../../src/cli/up/child.ts'
import { type Program, provide } from '../../src/cli/up/install.ts'

const program: Program = { title: 'promtool', names: ['promtool'], apt: ['prometheus'], brew: 'prometheus' }

/** Runs promtool, a part of Prometheus; installed like the servers of the tests if missing. */
export async function promtool(...args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const child = launch(await provide(program), args)
  const { code } = await child.exit
  return { code, output: child.stdout + child.stderr }
}
