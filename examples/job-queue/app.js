import { setTimeout as sleep } from 'node:timers/promises'
import { Queue, Worker } from 'bullmq'
import Fastify from 'fastify'
import fleet, { serverOptions } from 'fastify-fleet'

const app = Fastify(serverOptions())
await app.register(fleet, { name: 'jobs', session: false })
const { id } = app.fleet.instance

// A connection of its own: a worker blocks on it, which the deadlines of app.redis do not allow.
const connection = { url: process.env.REDIS_URL ?? 'redis://127.0.0.1:6379' }
const queue = new Queue('jobs', {
  connection,
  defaultJobOptions: {
    attempts: 5,
    backoff: { type: 'exponential', delay: 1000 },
    removeOnComplete: 1000,
    removeOnFail: 1000,
  },
})

/** A job may run twice, if its instance dies after the work and before the acknowledgement. */
const handlers = {
  mail: async ({ to }) => ({ to, sentBy: id }),
  report: async ({ tick, queuedBy }) => ({ tick, queuedBy, writtenBy: id }),
}
const worker = new Worker('jobs', (job) => handlers[job.name](job.data), { connection })
for (const part of [queue, worker]) part.on('error', (error) => app.log.error(error))

// A draining instance accepts no new job. It exits after the jobs that it has.
app.fleet.onState((state) => state === 'draining' && worker.close())
app.addHook('onClose', async () => {
  await worker.close()
  await queue.close()
})

const everyMs = Number(process.env.REPORT_EVERY_MS ?? 60_000)
app.fleet.leader('reports', async (signal) => {
  while (!signal.aborted) {
    const tick = Math.floor(Date.now() / everyMs)
    // One id per tick: if a second leader adds the same job, nothing happens.
    await queue.add('report', { tick, queuedBy: id }, { jobId: `report-${tick}` })
    await sleep(everyMs - (Date.now() % everyMs), undefined, { signal })
  }
})

app.post('/mails', async (request, reply) => {
  const job = await queue.add('mail', { to: String(request.body?.to) })
  return reply.code(202).header('location', `/jobs/${job.id}`).send({ id: job.id })
})

app.get('/jobs/:id', async (request, reply) => {
  const job = await queue.getJob(request.params.id)
  if (!job) return reply.code(404).send({ message: 'no such job' })
  return { id: job.id, name: job.name, state: await job.getState(), result: job.returnvalue }
})

app.get('/reports', async () => {
  const jobs = await queue.getCompleted(0, 99)
  return jobs.filter(({ name }) => name === 'report').map(({ returnvalue }) => returnvalue)
})

await app.listen({ port: Number(process.env.PORT ?? 3000), host: '0.0.0.0' })
