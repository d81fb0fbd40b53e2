// biome-ignore-all lint/suspicious/noTemplateCurlyInString: variables in the input files
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { evaluate } from '../../../src/cli/doctor/evaluate.ts'
import type { Source } from '../../../src/cli/doctor/facts.ts'
import { readAll } from '../../../src/cli/doctor/run.ts'
import type { Target } from '../engine/target.ts'

/** Files that `fleet doctor` reads; the first byte of an input chooses one. */
const files = [
  ...[
    'nginx.conf',
    'haproxy.cfg',
    'docker-compose.yml',
    'deployment.yml',
    'kustomization.yml',
    'fleet.service',
    'plan.json',
  ],
  ...['.env', 'Dockerfile', 'app.ts', 'ecosystem.config.json', 'ecosystem.config.cjs', 'conf.d/site.conf', '-'],
]
/** Separates the files of one input. */
const next = '\x1e'
const root = new URL('../../../', import.meta.url)
const seed = (file: number, path: string): string =>
  String.fromCharCode(file) + readFileSync(new URL(path, root), 'latin1').slice(0, 6000)

/**
 * Errors of the language: a reader that fails with one has met a value that it did not expect. The parser of JavaScript
 * says `Invalid regular expression flag` of a file's own mistake, V8 `Invalid regular expression: /…/`.
 */
const unexpected =
  /Cannot (?:read|destructure|convert|use|set|create)|is not (?:a function|iterable|a constructor|extensible)|Invalid (?:regular expression: \/.*\/|string length|array length|time value)|undefined \(|call stack|must be of type|toString|Reduce of/

/** With any file contents `fleet doctor` reports findings; an unreadable file is one. */
export default {
  seeds: [
    seed(0, 'nginx/nginx.conf'),
    seed(0, 'nginx/upstreams/keepalive.conf'),
    seed(12, 'nginx/snippets/locations.conf'),
    seed(1, 'haproxy/haproxy.cfg'),
    seed(2, 'docker-compose.loadbalancer.yml'),
    seed(3, 'deploy/kubernetes/app/deployment.yml'),
    seed(4, 'deploy/kubernetes/app/kustomization.yml'),
    seed(5, 'deploy/systemd/fastify-fleet.service'),
    seed(6, 'test/cli/doctor/shipped-plan.json'),
    '\x06{"format_version":1,"values":{"root_module":{"resources":[null,{"mode":"managed","type":"aws_lb_target_group","values":{"health_check":[null]}}]}}}',
    '\x06{"format_version":1,"values":{"root_module":{"resources":[{"mode":"managed","type":"aws_ecs_task_definition","values":{"container_definitions":"[null,{}]"}}],"child_modules":{}}}}',
    seed(8, 'Dockerfile'),
    seed(11, 'ecosystem.config.cjs'),
    '\x07REDIS_URL=redis://:%zz@h:6379\nSESSION_SECRET=abc\nDATABASE_URL=postgres://u:p%@h/d\nDRAIN_DELAY=5s',
    '\x09import Fastify from "fastify"\nconst app = Fastify({ trustProxy: true, keepAliveTimeout: 65 * 1000 })',
    '\x0a{"apps":[{"name":"a","script":"x","exec_mode":"cluster","instances":"max","env":{"PORT":1}}]}',
    '\x00include *.conf; include nginx.conf; http { include conf.d/*; include /**/*; }\x1e\x0cinclude ../*; server { }',
    '\x00# configuration file /etc/nginx/nginx.conf:\nhttp { include a.conf; }\n# configuration file a.conf:\nserver { }',
    '\x01global\n  presetenv A "x"\n.if streq("$A",x)\ndefaults a\n  mode http\n.elif defined(B)\n.else\n.endif\nfrontend f from a\n  bind :80 ssl\n  use_backend %[str(a)] if { path / }\nbackend b from a\n  server-template s 3 h check',
    '\x04patches: [ { path: a.yml }, null, 3 ]\x1e\x03kind: Deployment',
    '\x03apiVersion: v1\nkind: Secret\ndata: { a: null }\nspec: { template: { spec: { containers: [ null, { env: [ null ] } ] } } }',
    '\x02services: { a: { environment: [ null ], ports: [ null ], scale: 3 }, b: null }',
    `\x00${'a {'.repeat(1500)}`,
    `\x06{"format_version":1,"values":{"root_module":${'{"child_modules":['.repeat(800)}`,
    `\x02services: ${'['.repeat(3000)}`,
    '\x02a: &a [x,x]\nb: &b [*a,*a]\nc: &c [*b,*b]\nservices: &d { a: { environment: *c }, <<: *d }',
  ],
  dictionary: [
    ...[
      '{',
      '}',
      ';',
      '"',
      "'",
      '\\',
      '\n',
      '#',
      '${X}',
      '${X:-a}',
      '$$',
      ': ',
      '- ',
      '&a ',
      '*a',
      '<<: ',
      '!!js',
      '|',
      '>',
      '[',
      ']',
    ],
    ...[
      'null',
      '~',
      '__proto__',
      'constructor',
      '1e999',
      '65s',
      '"format_version": 1',
      '"child_modules"',
      '"address": "',
      '"values"',
      'include *.conf;',
      '# configuration file /etc/nginx/nginx.conf:\n',
      '.if ',
      '.else\n',
      '.endif\n',
      'use_backend %[x] if ',
      'defaults x from y\n',
      'proxy_pass http://$x;',
      next,
    ],
    ...[
      'REDIS_URL',
      'SESSION_SECRET',
      'env',
      'environment',
      'containers',
      'readinessProbe',
      'data',
      'patches',
      'upstream',
      'server',
    ],
  ],
  maxBytes: 65_536,
  /** Input for which a backtracking reader takes minutes: one token repeated. */
  generate(random) {
    const unit = random.pick([
      '{',
      '[',
      '"',
      "'",
      '\\',
      '${',
      '${a-',
      '"\\',
      'a {',
      'a = [',
      '- ',
      '&a ',
      '"address":"',
      ' ',
      'A=1\n',
      '?',
      'a(',
      '/*',
    ])
    const head = random.pick([
      '',
      'services:\n',
      'apiVersion: v1\nkind: ConfigMap\ndata:\n',
      'ExecStart=node',
      'a = "',
      '"',
    ])
    return Buffer.from(
      `${String.fromCharCode(random.below(files.length))}${head}${unit.repeat(random.pick([10, 100, 5000]))}`,
    )
  },
  async run(input) {
    const sources = input
      .toString('latin1')
      .split(next)
      .map((part): Source => ({ file: `/fuzz/${files[part.charCodeAt(0) % files.length]}`, text: part.slice(1) }))
    const { readings, broken, read } = await readAll(sources)
    const findings = [...broken, ...evaluate(readings, { longestMs: 1000 }).findings]
    for (const { file, line, code, message } of findings) {
      // The output of `nginx -T` names other files.
      const isKnown = sources.some(
        (source) => source.file === file || source.text.includes(`# configuration file ${file}:`),
      )
      assert.ok(isKnown && line >= 1 && code !== '', `${file}:${line} ${code}`)
      if (code === 'DOCTOR_SYNTAX') assert.doesNotMatch(message, unexpected)
    }
    return `${read.map(({ kind }) => kind)} ${findings.map(({ code }) => code)}`
  },
} satisfies Target
