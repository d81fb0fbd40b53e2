import '../helpers/cleanup.ts'
import { launch } from '../../src/cli/up/child.ts'
import { type Program, provide } from '../../src/cli/up/install.ts'

const program: Program = { title: 'promtool', names: ['promtool'], apt: ['prometheus'], brew: 'prometheus' }

/** Runs promtool, which comes with Prometheus; found, or installed like the servers the tests need. */
export async function promtool(...args: readonly string[]): Promise<{ code: number | null; said: string }> {
  const child = launch(await provide(program), args)
  const { code } = await child.exit
  return { code, said: child.stdout + child.stderr }
}
