import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { createInterface } from 'node:readline'
import { PrismaPg } from '@prisma/adapter-pg'
import { bindMigrationAwareSqlAdapterFactory } from '@prisma/driver-adapter-utils'

/**
 * Prisma's schema engine in its WebAssembly build, as the program that the Prisma CLI expects in
 * `PRISMA_SCHEMA_ENGINE_BINARY`: JSON-RPC, one message per line. The native build would have to be downloaded.
 */
interface Engine {
  SchemaEngine: { new: (options: object, log: () => void, adapter: object) => Promise<Record<string, Method>> }
  __wbg_set_wasm(exports: unknown): void
}
/** Available in Node, but declared only in TypeScript's browser types. */
declare const WebAssembly: {
  instantiate(wasm: Uint8Array, imports: object): Promise<{ instance: { exports: Record<string, () => void> } }>
}
type Method = (params: unknown) => Promise<unknown>

if (process.argv.includes('can-connect-to-database')) process.exit(0)

const name: string = '@prisma/schema-engine-wasm/schema_engine_bg'
const engine = (await import(name)) as Engine
const wasm = readFileSync(
  createRequire(import.meta.url)
    .resolve(name)
    .replace(/\.js$/, '.wasm'),
)
const { instance } = await WebAssembly.instantiate(wasm, { './schema_engine_bg.js': engine })
engine.__wbg_set_wasm(instance.exports)
instance.exports.__wbindgen_start?.()

const datasource = JSON.parse(process.argv[process.argv.indexOf('--datasource') + 1] ?? '{}') as { url: string }
const adapter = bindMigrationAwareSqlAdapterFactory(new PrismaPg({ connectionString: datasource.url }))
const methods = await engine.SchemaEngine.new({ datamodels: undefined }, () => {}, adapter)

for await (const line of createInterface({ input: process.stdin })) {
  const { id, method, params } = JSON.parse(line)
  const say = (message: object): void =>
    void process.stdout.write(`${JSON.stringify({ jsonrpc: '2.0', ...message })}\n`)
  try {
    const result = ((await methods[method]?.(params)) ?? null) as { stdout?: string | null } | null
    if (result?.stdout) say({ id: 0, method: 'print', params: { content: result.stdout } })
    say({ id, result })
  } catch (error) {
    const { message, code, meta } = error as Error & { code?: string; meta?: unknown }
    const data = code ? { is_panic: false, error_code: code, message, meta } : { is_panic: false, message }
    say({ id, error: { code: 4466, message, data } })
  }
}
process.exit(0)
