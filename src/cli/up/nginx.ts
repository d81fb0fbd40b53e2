import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { launch, temporaryFolder } from './child.ts'
import { type Program, type ProvideOptions, provide } from './install.ts'
import { probePort, type Server, startServer } from './server.ts'

export const nginxProgram: Program = {
  title: 'nginx',
  names: ['nginx'],
  apt: ['nginx', 'libnginx-mod-stream'],
  brew: 'nginx',
}

/** nginx with the stream module (layer 4), which is a separate package in Debian. */
export const nginxWithStream: Program = {
  ...nginxProgram,
  complete: (path) => {
    const { stderr } = spawnSync(path, ['-V'], { encoding: 'utf8' })
    const modules = /--modules-path=(\S+)/.exec(stderr)?.[1]
    return !stderr.includes('--with-stream=dynamic') || existsSync(join(modules ?? '', 'ngx_stream_module.so'))
  },
}

export interface FrontOptions extends ProvideOptions {
  /** Content of the main file; the working folder is the server's folder. */
  config: string
  /** Additional files by their path in the folder. */
  files?: Readonly<Record<string, string>>
  /** The port that opens when the server is up. */
  port: number
}

/** @throws FLEET_ERR_PROGRAM_MISSING, FLEET_ERR_SERVICE_FAILED */
export async function startNginx(options: FrontOptions): Promise<Server> {
  const { port } = options
  const program = await provide(nginxProgram, options)
  const folder = await writeConfig('nginx', 'nginx.conf', options)
  return startServer({
    title: 'nginx',
    port,
    folder,
    program,
    start: () =>
      launch(program, ['-p', folder, '-c', join(folder, 'nginx.conf'), '-e', 'stderr', '-g', 'daemon off;'], {
        cwd: folder,
      }),
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
