// Touches: the original `addHook` that @fastify/otel keeps on an app under the symbol `fastify otel addhook original`, while
//   its own `addHook` wraps each hook into a span.
// Seen in: @fastify/otel 0.18 to 0.21.
// Worth: needed for correctness of traces. Every request would have sixteen more spans, named after functions of this package.
// Fallback: the patched `addHook`; without the symbol, hooks of this package have spans as those of any plugin.

import type { FastifyInstance } from 'fastify'
import { read } from './fastify.ts'

/**
 * Hooks that are added to the app from now on get no spans.
 *
 * @returns a function that ends this
 */
export function addHooksUntraced(app: FastifyInstance): () => void {
  const original = read<FastifyInstance['addHook']>(app, 'fastify otel addhook original')
  if (original === undefined) return () => undefined
  const traced = Object.getOwnPropertyDescriptor(app, 'addHook')
  app.addHook = original
  return () => {
    if (traced) Object.defineProperty(app, 'addHook', traced)
    else Reflect.deleteProperty(app, 'addHook')
  }
}
