/** What can end a process from outside. */
export type Ending = 'SIGTERM' | 'SIGINT' | 'shutdown message' | 'fatal error'

export interface SignalHandlers {
  /** Called once; the process stays alive until its promise settles, then exits with that code. */
  first(ending: Ending, error?: Error): Promise<number>
  /** Called just before the process exits because a second signal came. */
  second(ending: Ending): void
}

const handlers = new Set<SignalHandlers>()
let ending: Promise<unknown> | undefined

/**
 * Lets several apps in one process leave together: the first signal starts all, the process exits when the last is
 * done, with the worst of their codes; a second signal exits at once with 1.
 *
 * pm2 on Windows, and everywhere with `shutdown_with_message`, sends the message `shutdown` in place of a signal.
 */
export function onEnding(handler: SignalHandlers): () => void {
  if (handlers.size === 0) listen('on')
  handlers.add(handler)
  return () => {
    handlers.delete(handler)
    if (handlers.size === 0) listen('off')
  }
}

function end(how: Ending, error?: Error): void {
  if (ending) {
    // Work in flight is worth more than a second complaint of a process that is leaving anyway.
    if (error) return
    for (const handler of handlers) handler.second(how)
    process.exit(1)
  }
  ending = Promise.all([...handlers].map((handler) => handler.first(how, error).catch(() => 1))).then((codes) =>
    process.exit(Math.max(error ? 1 : 0, ...codes)),
  )
}

const onTerm = (): void => end('SIGTERM')
const onInt = (): void => end('SIGINT')
const onMessage = (message: unknown): void => {
  if (message === 'shutdown') end('shutdown message')
}
const onFatal = (error: unknown): void => end('fatal error', error instanceof Error ? error : new Error(String(error)))

function listen(action: 'on' | 'off'): void {
  process[action]('SIGTERM', onTerm)
  process[action]('SIGINT', onInt)
  process[action]('message', onMessage)
  process[action]('uncaughtException', onFatal)
}
