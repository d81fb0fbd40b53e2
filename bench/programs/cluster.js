// Plain node:cluster with the program in the first argument: `rr` or `none` in SCHED, WORKERS processes.
import cluster from 'node:cluster'

cluster.schedulingPolicy = process.env.SCHED === 'none' ? cluster.SCHED_NONE : cluster.SCHED_RR
if (cluster.isPrimary) {
  cluster.setupPrimary({ exec: new URL('hello-bare.js', import.meta.url).pathname, silent: true })
  let left = Number(process.env.WORKERS)
  for (let i = left; i > 0; i--) cluster.fork()
  cluster.on('listening', () => {
    if (--left === 0) process.stdout.write('listening\n')
  })
}
