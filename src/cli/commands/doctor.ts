import { readEnv } from '../../base/env.ts'
import { readSecretFile } from '../../base/secret-files.ts'
import { type Command, defineCommand, flag, option, usageError } from '../args.ts'
import { examineBounded } from '../doctor/bounded.ts'
import type { Source } from '../doctor/facts.ts'
import { collect, type Oversized } from '../doctor/files.ts'
import { evaluateNamed } from '../doctor/programs/index.ts'
import { plural } from '../output.ts'

const command: Command = defineCommand({
  name: 'doctor',
  summary: 'Check the files of a deployment for conflicting timeouts and other mistakes',
  usage: `fleet doctor [FILES…] [options]

FILES are nginx and HAProxy configurations, compose files, ecosystem.config.cjs, systemd units, Kubernetes YAML, the
output of \`terraform show -json\`, .env files, Dockerfiles, or folders of them (default: the current folder). The app is asked
with \`--app\` or \`--url\`. \`-\` reads stdin, e.g. from \`kubectl kustomize\` or \`terraform show -json\`. The files are checked together. Exit code 1: there are problems; warnings do not count.`,
  options: {
    longest: option('SECONDS of the longest request', { default: '10' }),
    ignore: option('CODE to skip', { multiple: true }),
    app: option('FILE of an app, which is started in check mode to read its configuration', { multiple: true }),
    url: option('URL of a running instance, which is asked for its configuration'),
    token: option('TOKEN of operators for `--url` (default FLEET_ADMIN_TOKEN, which process lists do not show)'),
    'token-file': option('FILE with the token of operators'),
    insecure: flag('Accept a self-signed certificate of `--url`'),
    offline: flag('Do not connect to the Redis and the databases in .env files'),
  },
  suggest: { files: true },
  async run({ values, positionals, out }) {
    const longestMs = Number(values.longest) * 1_000
    if (!/^\d{1,5}(?:\.\d+)?$/.test(values.longest))
      throw usageError('`--longest` must be a number of seconds, e.g. 10')
    const names = positionals.filter((name) => name !== '-')
    const sources: Source[] = positionals.includes('-') ? [{ file: '-', text: await stdin() }] : []
    const large: Oversized[] = []
    const asks = values.app !== undefined || values.url !== undefined
    sources.push(...collect(positionals.length === 0 && !asks ? ['.'] : names, large))
    const evaluated = await evaluateNamed(sources, {
      apps: values.app,
      url: values.url,
      token: values.url === undefined ? undefined : tokenFrom(values),
      insecure: values.insecure,
    })
    const examined = await examineBounded(evaluated, { longestMs, connect: values.offline !== true })
    const { findings, read } = examined
    const unread = [...large, ...examined.unread]
    if (read.length === 0) {
      const [first] = unread
      throw usageError(first ? `${first.file}: ${first.why}` : 'no file of a known kind; name files or a folder')
    }
    const ignored = new Set(values.ignore ?? [])
    const reported = findings.filter(({ code }) => !ignored.has(code))
    const failures = reported.filter(({ confidence }) => confidence === 'certain')
    const healthy = failures.length === 0
    out.result({ healthy, findings: reported, files: read, unread })
    for (const { file, line, address, code, message, fix, assumed } of reported) {
      const style = assumed === undefined ? 'red' : 'yellow'
      out.line(`${file}:${line} ${out.style(style, code)}${address ? ` ${address}` : ''}`)
      out.line(`  ${message}`)
      if (assumed !== undefined) out.line(`  warning: this assumes that ${assumed}`)
      out.line(`  fix: ${fix}`)
    }
    for (const { file, why } of unread) out.line(`${file} not read: ${why}`)
    const problems = healthy ? 'no problems' : `${plural(failures.length, 'problem')}; see docs/doctor.md`
    const warnings = reported.length - failures.length
    out.line(
      `${plural(read.length, 'file')} read, ${problems}${warnings > 0 ? `, ${plural(warnings, 'warning')}` : ''}`,
    )
    return healthy ? 0 : 1
  },
})
export default command

/** @throws FLEET_ERR_USAGE for a file without a token */
function tokenFrom(values: { readonly token?: string; readonly 'token-file'?: string }): string | undefined {
  const { 'token-file': file, token } = values
  if (file === undefined) return token ?? readEnv().FLEET_ADMIN_TOKEN
  if (token !== undefined) throw usageError('pass either --token or --token-file')
  const text = readSecretFile(file)
  if (text === undefined) throw usageError(`--token-file ${file} is not a readable file with a token`)
  return text
}

/** Characters. */
const maxInput = 16_000_000

async function stdin(): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk
    if (text.length > maxInput) throw usageError(`stdin is longer than ${maxInput / 1e6} MB`)
  }
  return text
}
