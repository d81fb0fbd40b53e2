import { FleetError } from '../../base/errors.ts'
import { type Command, defineCommand } from '../args.ts'
import { examineBounded } from '../doctor/bounded.ts'
import type { Source } from '../doctor/facts.ts'
import { collect } from '../doctor/files.ts'

const command: Command = defineCommand({
  name: 'doctor',
  summary: 'Find timeouts that do not fit, and other mistakes, in the files of a deployment',
  usage: `fleet doctor [FILES…] [options]

Reads nginx and HAProxy configurations, compose files, ecosystem.config.cjs, systemd units, Kubernetes YAML, Terraform,
.env files, Dockerfiles and the app's own sources, folders too (default: this one); \`-\` is YAML on stdin, as
\`kubectl kustomize\` prints it. Files are judged together. Exit code 1 when something is wrong.`,
  options: {
    longest: { type: 'string', default: '10', describe: 'SECONDS that the longest request takes' },
    ignore: { type: 'string', multiple: true, describe: 'CODE to leave out' },
    offline: { type: 'boolean', describe: 'Do not ask whether the Redis and the database of .env files answer' },
  },
  async run({ values, positionals, out }) {
    const longestMs = Number(values.longest) * 1_000
    if (!/^\d{1,5}(?:\.\d+)?$/.test(values.longest))
      throw new FleetError('FLEET_ERR_USAGE', '`--longest` must be a number of seconds, e.g. 10')
    const names = positionals.filter((name) => name !== '-')
    const sources: Source[] = positionals.includes('-') ? [{ file: '-', text: await stdin() }] : []
    sources.push(...collect(positionals.length === 0 ? ['.'] : names))
    const { findings, read } = await examineBounded(sources, { longestMs, connect: values.offline !== true })
    if (read.length === 0)
      throw new FleetError('FLEET_ERR_USAGE', 'no file here is one that `fleet doctor` reads; name some, or a folder')

    const ignored = new Set(values.ignore ?? [])
    const wrong = findings.filter(({ code }) => !ignored.has(code))
    out.result({ healthy: wrong.length === 0, findings: wrong, files: read })
    for (const { file, line, code, message, mend } of wrong) {
      out.line(`${file}:${line} ${out.style('red', code)}`)
      out.line(`  ${message}`)
      out.line(`  mend: ${mend}`)
    }
    const files = `${read.length} ${read.length === 1 ? 'file' : 'files'} read`
    out.line(
      wrong.length === 0 ? `${files}, nothing wrong` : `${files}, ${wrong.length} wrong; docs/doctor.md explains each`,
    )
    return wrong.length === 0 ? 0 : 1
  },
})
export default command

/** Characters. */
const longestInput = 16_000_000

async function stdin(): Promise<string> {
  let text = ''
  for await (const chunk of process.stdin.setEncoding('utf8')) {
    text += chunk
    if (text.length > longestInput)
      throw new FleetError('FLEET_ERR_USAGE', `stdin is longer than ${longestInput / 1e6} MB`)
  }
  return text
}
