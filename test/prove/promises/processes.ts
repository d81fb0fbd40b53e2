import type { PromiseLine } from '../promises.ts'

const processesPage = 'docs/processes.md'
const deploy = 'docs/deploy.md'
const group = 'test/host/group.test.ts'

export const processes = {
  'processes-replaced': {
    wording: 'Each replaces processes without losing a request.',
    page: processesPage,
    under: 'a new build with pm2, `fleet start` or systemd, and a process above its memory limit',
    cost: 'nothing',
    tests: [`${group} › replaces a worker above its memory limit by one that is ready`],
  },
  'fleet-start-reload': {
    wording: 'A reload loses no request.',
    page: processesPage,
    under: '`fleet reload` or SIGHUP with a new build, under load without a load balancer in front',
    cost: 'nothing',
    tests: ['test/host/reload.test.ts › requests in flight on an old worker complete before it exits'],
  },
  'fleet-start-bad-build': {
    wording: 'A build that does not become ready serves no request.',
    page: processesPage,
    under: '`fleet reload` with a build that throws, does not compile, hangs or is never ready',
    cost: 'nothing',
    tests: [
      'test/host/supervisor-reload.test.ts › is abandoned if a new worker *: it is stopped and all old ones keep serving',
    ],
  },
  'fleet-start-crash': {
    wording: 'A crash is not an outage.',
    page: processesPage,
    under: 'SIGKILL of a worker of `fleet start` under load',
    cost: 'the requests that this worker was serving',
    tests: [
      `${group} › restarts a worker that crashes while the others serve`,
      `${group} › restarts a worker that keeps crashing with growing delays`,
    ],
  },
  'stuck-worker': {
    wording:
      'A stuck worker is killed after `--stuck-after` (5 s) without a heartbeat, and gets no new connections meanwhile.',
    page: processesPage,
    under: 'an endless loop in a worker',
    cost: 'the requests that this worker was serving',
    tests: [`${group} › replaces a stuck worker, and serves /metrics without it meanwhile`],
  },
  'group-stops': {
    wording: 'SIGTERM and SIGINT drain all workers.',
    page: processesPage,
    under: 'a signal to the supervisor, to the process group, or to every process',
    cost: 'nothing, unless a request outlasts `SHUTDOWN_TIMEOUT`',
    tests: [
      `${group} › on SIGTERM requests in flight complete, the exit code is 0, and no process remains`,
      `${group} › Ctrl-C in a terminal reaches all processes at once and loses no request`,
      `${group} › a SIGTERM to all processes, as systemd sends it, drains for DRAIN_DELAY`,
    ],
  },
  'supervisor-killed': {
    wording: 'If the supervisor itself is killed by SIGKILL, its workers exit at once.',
    page: processesPage,
    under: 'SIGKILL of `fleet start`',
    cost: 'all requests in flight, and an outage until the service manager starts it again',
    tests: [`${group} › workers end when their supervisor is killed`],
  },
  'pm2-bad-build': {
    wording: 'If a bad build is reloaded anyway, pm2 starts it again and again while the old processes serve.',
    page: processesPage,
    under: '`pm2 reload` of a build that ends, or is never ready',
    cost: 'nothing',
  },
  'pm2-crash': {
    wording: 'pm2 restarts a process that has crashed, and the others serve meanwhile.',
    page: processesPage,
    under: 'SIGKILL of a process of pm2 under load',
    cost: 'the requests that this process was serving; one that pm2 was just passing to it gets no response',
  },
  'deploy-not-ready': {
    wording: 'An instance that is not ready serves no request.',
    page: deploy,
    under: '`fleet deploy` of a build that never becomes ready',
    cost: 'nothing',
  },
  'deploy-rolls-back': {
    wording: 'A failure rolls everything back',
    page: deploy,
    under: 'a build that ends, reports another version, or is never ready',
    cost: 'nothing',
    tests: ['test/cli/deploy/fronts.test.ts › starts new containers beside the old ones, then stops the old ones'],
  },
  'deploy-interrupted': {
    wording: 'An interrupted deploy can be run again, even after SIGKILL.',
    page: deploy,
    under: 'SIGKILL of `fleet deploy` while it replaces an instance',
    cost: 'nothing',
    tests: [
      'test/cli/deploy/plans.test.ts › continues after an interruption: keeps replaced instances and starts missing ones',
    ],
  },
  'deploy-no-loss': {
    wording: 'No request is lost when an instance drains (`DRAIN_DELAY`), with the exception described under nginx.',
    page: deploy,
    under: '`fleet deploy` rolling, blue-green and canary behind nginx and HAProxy, rolling with pm2',
    cost: 'nothing; behind nginx before 1.27.4 a client repeats a request on a connection that a reload closed',
  },
  'canary-stopped': {
    wording:
      'its share of 5xx exceeds that of the stable side by more than `--error-margin` percent (compared twice a second)',
    page: deploy,
    under: '`fleet deploy canary` of a build that responds 500',
    cost: 'the error responses of the canary until it is stopped',
    tests: ['test/cli/deploy/compare.test.ts › reports errors at once and latency at the end'],
  },
  'compose-restart': {
    wording:
      '`docker restart CONTAINER`, one container after the other, loses no request through any of the three load balancers, as long as another instance is healthy.',
    page: 'docs/compose.md',
    under:
      'each instance of each pool is restarted, in quick succession, under load through nginx, HAProxy and the built-in load balancer',
    cost: 'nothing',
  },
  'compose-kill': {
    wording: 'A POST may fail only if it was in flight on the killed instance and sent before the kill.',
    page: 'docs/compose.md',
    under: 'SIGKILL of a container under load',
    cost: '502 for a POST in flight on it',
    tests: ['scripts/test-compose'],
  },
  'compose-scaling': {
    wording:
      'An instance that is removed receives `SIGTERM`, drains for `DRAIN_DELAY` while it still serves, and exits.',
    page: 'docs/compose.md',
    under: 'five instances become three under load',
    cost: 'nothing',
    tests: ['scripts/test-compose'],
  },
  'compose-bad-build': {
    wording: 'A build that does not become healthy is rolled back',
    page: 'docs/compose.md',
    under: '`fleet deploy --front compose` of a build that exits, and of one that hangs, under load',
    cost: 'nothing',
    tests: ['scripts/test-compose'],
  },
  'compose-rotation': {
    wording: 'Sessions survive a rotation, and end at the second one if their cookie was not renewed in between.',
    page: 'docs/compose.md',
    under: '`SESSION_SECRET` is replaced, and the instances are restarted under load',
    cost: 'nothing',
    tests: ['scripts/test-compose'],
  },
  'compose-redis': {
    wording: 'Redis keeps an append-only file, flushed every second.',
    page: 'docs/compose.md',
    under: 'SIGKILL of Redis',
    cost: 'writes of the last second, or of two if the disk is slow',
    tests: ['scripts/test-compose'],
  },
  'eject-compose': {
    wording: 'Every kit is ejected into an empty project.',
    page: 'docs/eject.md',
    under: 'the README example, packed and installed in a new project, with the ejected compose file',
    cost: 'nothing',
    tests: ['test/cli/eject.test.ts'],
  },
  'swarm-update': {
    wording: 'No request fails, whether the update succeeds or is rolled back.',
    page: 'docs/swarm.md',
    under: 'a rolling update, a build that exits, one that is never ready, and scaling, under load',
    cost: 'nothing',
  },
  'swarm-liveness': {
    wording: 'an instance that has lost a dependency is not restarted for it',
    page: 'docs/swarm.md',
    under: 'a dependency is gone',
    cost: 'an error response of routes that need it',
    tests: [
      'test/app/trouble.test.ts › without the database it is live, not ready, responds 503 where needed, and recovers',
    ],
  },
} as const satisfies Record<string, PromiseLine>
