import { readEnv } from '../../base/env.ts'
import { readSecretFile } from '../../base/secret-files.ts'
import { type Command, defineCommand, flag, option, usageError } from '../args.ts'
import { version } from '../dispatch.ts'
import { examineBounded } from '../doctor/bounded.ts'
import type { Finding } from '../doctor/evaluate.ts'
import { explain, ruleOf } from '../doctor/explain.ts'
import type { Source } from '../doctor/facts.ts'
import { collect, type Unreadable } from '../doctor/files.ts'
import { fixesOf, write } from '../doctor/fix.ts'
import { hasFailed, type Judged, printReport } from '../doctor/print.ts'
import { evaluateNamed } from '../doctor/programs/index.ts'
import { sarifOf } from '../doctor/sarif.ts'
import { type Output, plural } from '../output.ts'
import { canAsk, isYes } from '../up/consent.ts'

const command: Command = defineCommand({
  name: 'doctor',
  summary: 'Check the files of a deployment for conflicting timeouts and other mistakes',
  usage: `fleet doctor [FILES…] [options]

FILES are nginx and HAProxy configurations, compose files, ecosystem.config.cjs, systemd units, Kubernetes YAML, the
output of \`terraform show -json\`, .env files, Dockerfiles, or folders of them (default: the current folder). The app is asked
with \`--app\` or \`--url\`. \`-\` reads stdin, e.g. from \`kubectl kustomize\` or \`terraform show -json\`. The files are checked together. Exit code 1: there are problems; with \`--strict\`, also for warnings.`,
  options: {
    longest: option('SECONDS of the longest request (default 10)'),
    ignore: option('CODE to skip', { multiple: true }),
    app: option('FILE of an app, which is started in check mode to read its configuration', { multiple: true }),
    url: option('URL of a running instance, which is asked for its configuration'),
    token: option('TOKEN of operators for `--url` (default FLEET_ADMIN_TOKEN, which process lists do not show)'),
    'token-file': option('FILE with the token of operators'),
    insecure: flag('Accept a self-signed certificate of `--url`'),
    strict: flag('Fail for warnings too: assumed findings, and named files in which nothing was found'),
    verbose: flag('List the rules that were applied to each file'),
    sarif: flag('Print a SARIF 2.1.0 log, for code scanning'),
    fix: flag('Show the fixes that change one line as a diff, and write them after a yes'),
    yes: flag('Write the fixes of `--fix` without asking', { short: 'y' }),
    explain: option('CODE of a rule to explain: why, the fix, sources'),
    offline: flag('Do not connect to the Redis and the databases in .env files'),
  },
  suggest: { files: true },
  async run({ values, positionals, out }) {
    if (values.explain !== undefined) {
      const { rule: _, ...explained } = ruleOf(values.explain)
      out.result(explained)
      for (const line of explain(values.explain)) out.line(line)
      return 0
    }
    if (values.sarif && (out.json || values.fix)) throw usageError('pass --sarif without --json and --fix')
    if (values.yes && !values.fix) throw usageError('--yes belongs to --fix')
    const { longest = '10' } = values
    const longestMs = Number(longest) * 1_000
    if (!/^\d{1,5}(?:\.\d+)?$/.test(longest)) throw usageError('`--longest` must be a number of seconds, e.g. 10')
    const names = positionals.filter((name) => name !== '-')
    const sources: Source[] = positionals.includes('-') ? [{ file: '-', text: await stdin() }] : []
    const unreadable: Unreadable[] = []
    const asks = values.app !== undefined || values.url !== undefined
    sources.push(...collect(positionals.length === 0 && !asks ? ['.'] : names, unreadable))
    const evaluated = await evaluateNamed(sources, {
      apps: values.app,
      url: values.url,
      token: values.url === undefined ? undefined : tokenFrom(values),
      insecure: values.insecure,
    })
    const examined = await examineBounded(evaluated, {
      longestMs,
      longestIsKnown: values.longest !== undefined,
      connect: values.offline !== true,
    })
    const unread = [...unreadable, ...examined.unread]
    if (examined.read.length === 0) {
      const [first] = unread
      throw usageError(first ? `${first.file}: ${first.why}` : 'no file of a known kind; name files or a folder')
    }
    const ignored = new Set(values.ignore ?? [])
    const findings = examined.findings.filter(({ code }) => !ignored.has(code))
    const judged: Judged = { ...examined, findings, unread }
    const failed = hasFailed(judged, values.strict === true)
    out.result({ healthy: !failed, findings, files: examined.read, unread })
    if (values.sarif) out.line(JSON.stringify(sarifOf(findings, version()), undefined, 1))
    else printReport(judged, out, values.verbose === true)
    if (values.fix) await repair(findings, sources, names.length === 0 ? ['.'] : names, values.yes === true, out)
    return failed ? 1 : 0
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

/** Shows the fixes as a diff; writes them with `--yes`, or after a yes on a terminal. */
async function repair(
  findings: readonly Finding[],
  sources: readonly Source[],
  names: readonly string[],
  allowed: boolean,
  out: Output,
): Promise<void> {
  const fixes = fixesOf(findings, sources, names)
  if (fixes.length === 0) return out.note('no finding has a fix that changes one line')
  for (const line of fixes.flatMap(({ diff }) => diff)) out.note(line)
  const what = plural(fixes.flatMap(({ fixed }) => fixed).length, 'fix', 'fixes')
  if (!allowed && !(canAsk(out) && (await isYes(`Write ${what}? [y/N]`, out))))
    return out.note(`${what} not written; \`--yes\` writes them`)
  for (const fix of fixes) {
    const source = sources.find(({ file }) => file === fix.file)
    const written = source !== undefined && (await write(fix, source))
    out.note(written ? `${fix.file} written; run doctor again` : `${fix.file} has changed meanwhile; not written`)
  }
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
