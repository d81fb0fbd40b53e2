import type { Script } from '../helpers/hostile/client.ts'

const rejection = /^\{"ok":false,"reason":"unknown command; expected `reload`"\}\n$/

/** In each, the control socket closes the connection. */
export const controlSocket: Readonly<Record<string, Script>> = {
  'sends nothing': {},
  'sends half a command': { bytes: 'relo' },
  'drips something else': { drip: 'x', receives: rejection },
  'sends without end': { bytes: 'reload'.repeat(20_000), drip: 'x'.repeat(10_000), receives: rejection },
  'ends its side': { closeBy: 'end' },
}
