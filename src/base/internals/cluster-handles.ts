// Touches: the listener that `node:cluster` adds to the event `disconnect` of a worker's process, and `_handle.close` of a
//   listening server, which it replaces in a worker.
// Seen in: Node 22 to 24.
// Worth: needed for correctness. The parent keeps the shared listening sockets open until it has read that the last worker
//   has closed them, and no process accepts in that time. A worker that closes a socket writes a message to the parent
//   first, which takes 0.2 to 9 ms on a busy machine, and does not accept in that time either. The kernel then resets the
//   connections that arrived (stopping two workers under load, 24 times: up to 30 connections in 18 of them).
// Fallback: without that listener or that method, the sockets close as described.

import type { Worker } from 'node:cluster'
import { Server } from 'node:net'

/** Closes this process's copy of the listening sockets of a worker, which keeps its own until it closes them. */
export function releaseSockets(worker: Worker): void {
  worker.process.emit('disconnect')
}

/** Stops listening and keeps open connections; `close()` of an HTTP server would also destroy idle ones. */
export function closeListener(server: Server): void {
  const { _handle: handle } = server as { _handle?: Partial<Record<'close', unknown>> }
  if (handle && Object.hasOwn(handle, 'close')) {
    const { close } = Object.getPrototypeOf(handle) as typeof handle
    // The call below closes it again, which has no effect, and tells the parent.
    if (typeof close === 'function') close.call(handle)
  }
  Server.prototype.close.call(server)
}
