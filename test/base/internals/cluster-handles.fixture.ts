import cluster from 'node:cluster'
import { createServer } from 'node:net'
import { closeListener } from '../../../src/base/internals/cluster-handles.ts'

// Prints whether the socket was still open when the worker told its parent that it closes it.
if (cluster.isPrimary) {
  cluster.schedulingPolicy = cluster.SCHED_NONE
  cluster.fork()
} else {
  const server = createServer().listen(0, '127.0.0.1', () => {
    const handle = (server as unknown as { _handle: { fd: number } })._handle
    const { fd } = handle
    const send = process.send as (...args: unknown[]) => boolean
    process.send = (...args: unknown[]) => {
      if ((args[0] as { act?: string }).act === 'close') console.log(JSON.stringify({ fd, fdWhenTold: handle.fd }))
      return send.apply(process, args)
    }
    closeListener(server)
    server.on('close', () => {
      console.log('closed')
      process.disconnect()
    })
  })
}
