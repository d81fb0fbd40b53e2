// pm2 start, or pm2 start ecosystem.config.cjs
//
// NODE_ENV is production unless pm2 gets `--env development`. In production the app needs REDIS_URL, SESSION_SECRET and
// JWT_SECRET, and the reference application DATABASE_URL. Without Redis, the processes do not start, because each would have
// sessions of its own. Behind a load balancer that ends TLS, no session is saved without TRUST_PROXY, a list of its addresses.
//
// Deploy with
//     fleet start ./src/app/main.ts --check && pm2 reload ecosystem.config.cjs
// The check starts the new build once, on a free port, and exits with 1 if it does not become ready: pm2 itself has no
// such gate. See listen_timeout for a bad build that is reloaded without the check.
//
// pm2 is a separate program (AGPL-3.0), not a part of this package: npm install --global pm2

const shutdownTimeout = Number(process.env.SHUTDOWN_TIMEOUT || 30_000)

module.exports = {
  apps: [
    {
      name: 'fleet',
      script: './src/app/main.ts',
      // One process per CPU, behind one port.
      exec_mode: 'cluster',
      instances: 'max',

      // A start or reload continues when the instance sends `ready`: it listens, and its critical checks pass. Default:
      // as soon as the process listens.
      wait_ready: true,

      // On reload, pm2 starts a new process, waits for its `ready`, and then stops an old one. When this time is over
      // it stops the old one even if the new one never became ready (default 3 s). So it is longer than any fix takes.
      // A bad build exits by itself (see FLEET_READY_TIMEOUT) and is restarted again and again, while the old processes
      // serve. Once the build is fixed or reverted, the waiting reload continues by itself.
      listen_timeout: 3_600_000,

      // A process that does not become ready is restarted after 0.1 s, 0.15 s, … up to 15 s. Default: at once, 16
      // times, and then never again.
      exp_backoff_restart_delay: 100,

      // Time to drain before SIGKILL (default 1.6 s). Longer than SHUTDOWN_TIMEOUT, after which an instance exits by
      // itself.
      kill_timeout: shutdownTimeout + 5_000,

      // A process above this is replaced as in a reload. pm2 checks every 30 s.
      max_memory_restart: '1G',

      // All processes write to the same two files.
      merge_logs: true,

      env: {
        NODE_ENV: 'production',
        // Listen only once the critical checks pass; exit with 1 if they do not within this time, in milliseconds.
        // Without it, a bad build would serve requests before it is detected.
        FLEET_READY_TIMEOUT: 60_000,
        SHUTDOWN_TIMEOUT: shutdownTimeout,
        // Set here, because a reload keeps the old value of unlisted variables. `fleet deploy` recognises new processes
        // by it.
        FLEET_VERSION: process.env.FLEET_VERSION ?? '',
        // pm2 gives every process the environment of the shell, and ids must differ: empty means "generate one".
        INSTANCE_ID: '',
      },
      // Accepted, although it is the default.
      env_production: {
        NODE_ENV: 'production',
      },
      env_development: {
        NODE_ENV: 'development',
      },
    },
  ],
}
