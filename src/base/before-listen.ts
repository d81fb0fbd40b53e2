import type { FastifyInstance } from 'fastify'

/**
 * Delays `app.listen()` until the app is ready and `prepare` has resolved. An app that is only used with `inject` never
 * prepares. `listen` itself reports a failed start of the app.
 *
 * @param undo called when `listen` failed after that
 */
export function beforeListen(
  app: FastifyInstance,
  prepare: () => Promise<void>,
  undo: () => Promise<void> = async () => {},
): void {
  const listen = app.listen as (...args: unknown[]) => unknown
  const listenLater = async (args: unknown[]): Promise<unknown> => {
    const isReady = await app.ready().then(
      () => true,
      () => false,
    )
    if (isReady) await prepare()
    try {
      return await listen.apply(app, args)
    } catch (error) {
      await undo()
      throw error
    }
  }
  app.listen = ((...args: unknown[]) => {
    const callback = args.at(-1)
    const listening = listenLater(args)
    if (typeof callback !== 'function') return listening
    listening.catch((error: unknown) => callback(error, ''))
  }) as typeof app.listen
}
