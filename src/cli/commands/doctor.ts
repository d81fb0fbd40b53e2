import { type Command, defineCommand, flag, option, usageError } from '../args.ts'
import { examineBounded } from '../doctor/bounded.ts'
import type { Source } from '../doctor/facts.ts'
import { collect } from '../doctor/files.ts'
import { plural } from '../output.ts'

const command: Command = defineCommand({
  name: 'doctor',
  summary: 'Check the files of a deployment for conflicting timeouts and other mistakes',
  usage: `fleet doctor [FILES…] [options]

FILES are nginx and HAProxy configurations, compose files, ecosystem.config.cjs, systemd units, Kubernetes YAML, the
output of \`terraform show -json\`, .env files, Dockerfiles, sources of the app, or folders of them (default: the current
folder). \`-\` reads stdin, e.g. from \`kubectl kustomize\` or \`terraform show -json\`. The files are checked together. Exit code 1: there are problems.`,
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
    sources.push(...collect(positionals.length === 0 ? ['.'] : names))
    const { findings, read, unread } = await examineBounded(sources, { longestMs, connect: values.offline !== true })
    const advice = `${unread.join(', ')} not read: run \`terraform show -json > plan.json\` and pass the file`
    if (read.length === 0)
      throw usageError(unread.length > 0 ? advice : 'no file of a known kind; name files or a folder')

    const ignored = new Set(values.ignore ?? [])
    const wrong = findings.filter(({ code }) => !ignored.has(code))
    out.result({ healthy: wrong.length === 0, findings: wrong, files: read, unread })
    for (const { file, line, address, code, message, fix } of wrong) {
      out.line(`${file}:${line} ${out.style('red', code)}${address ? ` ${address}` : ''}`)
      out.line(`  ${message}`)
      out.line(`  fix: ${fix}`)
    }
    if (unread.length > 0) out.line(advice)
    const problems = wrong.length === 0 ? 'no problems' : `${plural(wrong.length, 'problem')}; see docs/doctor.md`
    out.line(`${plural(read.length, 'file')} read, ${problems}`)
    return wrong.length === 0 ? 0 : 1
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
