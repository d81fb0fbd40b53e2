/** What can end a process from outside. */
export type ExitCause = 'SIGTERM' | 'SIGINT' | 'shutdown message' | 'fatal error'

export interface ExitHandlers {
  /** Called once. The process exits with the code that the promise resolves to. */
  first(cause: ExitCause, error?: Error): Promise<number>
  /** Called right before the process exits because of a second signal. */
  second(cause: ExitCause): void
}

const handlers = new Set<ExitHandlers>()
let exiting: Promise<unknown> | undefined

/**
 * Lets several apps in one process shut down together. The first signal starts all handlers, and the process exits with
 * the largest of their codes after the last one. A second signal exits at once with 1.
 *
 * pm2 on Windows, and everywhere with `shutdown_with_message`, sends the message `shutdown` instead of a signal.
 *
 * @returns a function that removes the handlers
 */
export function onExitSignal(handler: ExitHandlers): () => void {
  if (handlers.size === 0) listen('on')
  handlers.add(handler)
  return () => {
    handlers.delete(handler)
    if (handlers.size === 0) listen('off')
  }
}

function exit(cause: ExitCause, error?: Error): void {
  if (exiting) {
    // A second error must not cut requests in flight, since the process is shutting down anyway.
    if (error) return
    for (const handler of handlers) handler.second(cause)
    process.exit(1)
  }
  exiting = Promise.all([...handlers].map((handler) => handler.first(cause, error).catch(() => 1))).then((codes) =>
    process.exit(Math.max(error ? 1 : 0, ...codes)),
  )
}

const onTerm = (): void => exit('SIGTERM')
const onInt = (): void => exit('SIGINT')
const onMessage = (message: unknown): void => {
  if (message === 'shutdown') exit('shutdown message')
}
const onFatal = (error: unknown): void => exit('fatal error', error instanceof Error ? error : new Error(String(error)))

function listen(action: 'on' | 'off'): void {
  process[action]('SIGTERM', onTerm)
  process[action]('SIGINT', onInt)
  process[action]('message', onMessage)
  process[action]('uncaughtException', onFatal)
}
