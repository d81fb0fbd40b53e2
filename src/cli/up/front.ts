import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { launch, temporaryFolder } from './child.ts'
import { type Program, type ProvideOptions, provide } from './install.ts'
import { probePort, type Server, startServer } from './server.ts'

/** A load balancer (front) and its instances, all on 127.0.0.1. */
export interface FrontPlan {
  port: number
  /** Ports of the instances. */
  instances: readonly number[]
  /** Their ports for operators. @default the same */
  operators?: readonly number[]
  /** The operators' token of the instances. */
  adminToken?: string
  /** Ports of their agent checks (FLEET_AGENT_PORT), for a front that uses them. */
  agents?: readonly number[]
  /** How long a draining instance keeps listening, ms. */
  drainDelayMs: number
}

export interface FrontKind {
  readonly title: string
  /** The program to install; absent for Node. */
  readonly program?: Program
  /** Whether instances get a port for agent checks. */
  readonly usesAgents?: boolean
  /** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
  start(plan: FrontPlan, options?: ProvideOptions): Promise<Server>
}

export interface FrontOptions extends ProvideOptions {
  /** Content of the main file; the working folder is the server's folder. */
  config: string
  /** Additional files by their path in the folder. */
  files?: Readonly<Record<string, string>>
  /** The port that opens when the server is up. */
  port: number
}

/**
 * Starts a front with its configuration.
 *
 * @param argv the arguments; `main` is in `folder`
 * @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED
 */
export async function startFront(
  kind: Program,
  main: string,
  options: FrontOptions,
  argv: (folder: string) => readonly string[],
): Promise<Server> {
  const { port } = options
  const program = await provide(kind, options)
  const folder = await writeConfig(kind.title.toLowerCase(), main, options)
  return startServer({
    title: kind.title,
    port,
    folder,
    program,
    start: () => launch(program, argv(folder), { cwd: folder }),
    isUp: () => probePort(port),
  })
}

/** Writes the configuration to a folder that workers of another user can read. */
export async function writeConfig(name: string, main: string, options: FrontOptions): Promise<string> {
  const folder = temporaryFolder(name)
  // Everybody may connect to a socket of nginx whose folder can be entered.
  if (process.getuid?.() === 0) await chmod(folder, 0o711)
  for (const [path, content] of Object.entries({ [main]: options.config, ...options.files })) {
    const file = join(folder, path)
    await mkdir(dirname(file), { recursive: true })
    await writeFile(file, content)
  }
  return folder
}
