// pm2 start ecosystem.config.cjs --env production
//
// Deploy with
//     fleet start ./src/app/main.ts --check && pm2 reload ecosystem.config.cjs --env production
// The check starts the new build once, on a free port, and ends with 1 when it does not become ready: pm2 itself has no
// such gate. See listen_timeout for what becomes of a bad build that is reloaded all the same.
//
// pm2 is a program of its own (AGPL-3.0), not a part of this package: npm install --global pm2

const shutdownTimeout = Number(process.env.SHUTDOWN_TIMEOUT || 30_000)

module.exports = {
  apps: [
    {
      name: 'fleet',
      script: './src/app/main.ts',
      // One process for each processor, behind one port.
      exec_mode: 'cluster',
      instances: 'max',

      // A start or reload goes on when the instance says `ready`: it listens, and its critical checks pass. Default: as
      // soon as the process listens.
      wait_ready: true,

      // Reload: pm2 starts a new process, waits for its `ready`, and then ends an old one. But when this time is over
      // it ends the old one even if the new one never became ready (default 3 s). So it is longer than any mend takes.
      // A bad build ends by itself (see FLEET_READY_TIMEOUT) and is started again and again, while the old processes
      // serve; once the build is mended, or the old one put back, the reload that still waits goes on by itself.
      listen_timeout: 3_600_000,

      // A process that does not become ready is started again after 0.1 s, 0.15 s, … up to 15 s. Default: at once, 16
      // times, and then never again.
      exp_backoff_restart_delay: 100,

      // Time to drain before SIGKILL (default 1.6 s). Above SHUTDOWN_TIMEOUT, after which an instance ends by itself.
      kill_timeout: shutdownTimeout + 5_000,

      // A process above this is replaced like in a reload. pm2 looks every 30 s.
      max_memory_restart: '1G',

      // All processes write into the same two files.
      merge_logs: true,

      env: {
        // Listen only once the critical checks pass, and end with 1 when they do not in this time, in milliseconds.
        // Without it a bad build would answer requests before it is found to be one.
        FLEET_READY_TIMEOUT: 60_000,
        SHUTDOWN_TIMEOUT: shutdownTimeout,
        // Named here, because a reload keeps the old value of what is not: by it a deploy knows the new ones.
        FLEET_VERSION: process.env.FLEET_VERSION ?? '',
        // pm2 gives every process the environment of the shell, and ids must differ: empty means "make one".
        INSTANCE_ID: '',
      },
      env_production: {
        NODE_ENV: 'production',
      },
    },
  ],
}
