import { type Command, defineCommand, flag, option, usageError } from '../args.ts'
import { examineBounded } from '../doctor/bounded.ts'
import type { Source } from '../doctor/facts.ts'
import { collect, type Oversized } from '../doctor/files.ts'
import { plural } from '../output.ts'

const command: Command = defineCommand({
  name: 'doctor',
  summary: 'Check the files of a deployment for conflicting timeouts and other mistakes',
  usage: `fleet doctor [FILES…] [options]

FILES are nginx and HAProxy configurations, compose files, ecosystem.config.cjs, systemd units, Kubernetes YAML, the
output of \`terraform show -json\`, .env files, Dockerfiles, sources of the app, or folders of them (default: the current
folder). \`-\` reads stdin, e.g. from \`kubectl kustomize\` or \`terraform show -json\`. The files are checked together. Exit code 1: there are problems; warnings do not count.`,
  options: {
    longest: option('SECONDS of the longest request', { default: '10' }),
    ignore: option('CODE to skip', { multiple: true }),
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
    sources.push(...collect(positionals.length === 0 ? ['.'] : names, large))
    const examined = await examineBounded(sources, { longestMs, connect: values.offline !== true })
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
