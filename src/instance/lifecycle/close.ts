import type { FastifyInstance } from 'fastify'
import { rootOf } from '../../base/internals/fastify.ts'

type CloseListener = (error: unknown, ...rest: unknown[]) => void

/**
 * Replaces `app.close()` of the outermost app, which all scopes inherit. Fastify rejects requests from the moment it starts
 * to close, before any hook, so a drain has to come before that.
 *
 * @param drain resolves when Fastify may close; undefined if the app does not serve
 * @returns Fastify's own `close`. Concurrent calls close once and have the same outcome
 */
export function drainBeforeClose(app: FastifyInstance, drain: () => Promise<unknown> | undefined): () => Promise<void> {
  const root = rootOf(app)
  const original = root.close as (listener?: CloseListener) => unknown
  let closing: Promise<void> | undefined
  let isClosed = false
  const close = (): Promise<void> => {
    closing ??= (original.call(root) as Promise<void>).finally(() => {
      isClosed = true
    })
    return closing
  }
  const closeGracefully = (listener?: CloseListener): unknown => {
    const drained = isClosed ? undefined : drain()
    if (!drained) return original.call(root, listener)
    const closed = drained.then(close)
    if (listener === undefined) return closed
    const call = (error: unknown): void =>
      listener.length === 2 ? listener(error, () => undefined) : listener(error, root, () => undefined)
    closed.then(() => call(null), call)
    return root
  }
  root.close = closeGracefully as typeof root.close
  return close
}
