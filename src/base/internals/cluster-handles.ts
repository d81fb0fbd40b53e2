// Touches: the listener that `node:cluster` adds to the event `disconnect` of a worker's process.
// Seen in: Node 22 to 24.
// Worth: needed for correctness. This process keeps the shared listening sockets open until it has read that the last worker
//   has closed them. No process accepts in that time, and the kernel resets the connections that arrived.
// Fallback: without that listener the event has no effect, and the sockets close as described.

import type { Worker } from 'node:cluster'

/** Closes this process's copy of the listening sockets of a worker, which keeps its own until it closes them. */
export function releaseSockets(worker: Worker): void {
  worker.process.emit('disconnect')
}
