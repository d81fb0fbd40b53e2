import { pathToFileURL } from 'node:url'
import type { Finding } from './evaluate.ts'
import { ruleOf } from './explain.ts'

/** A file relative to the folder that doctor runs in, or an absolute URL. */
function uriOf(file: string): string {
  if (file === '-') return 'stdin'
  if (/^https?:/.test(file)) return file
  // `#` and `?` of a name begin no other part of the URL.
  return /^[./]*\.\.\/|^\//.test(file) ? pathToFileURL(file).href : file.split('/').map(encodeURIComponent).join('/')
}

/** The findings as a SARIF 2.1.0 log, which code scanning of GitHub and GitLab read. */
export function sarifOf(findings: readonly Finding[], version: string): object {
  const codes = [...new Set(findings.map(({ code }) => code))].sort()
  const rules = codes.map((code) => {
    const { problem, fix, sources } = ruleOf(code)
    return {
      id: code,
      shortDescription: { text: problem },
      help: { text: `Fix: ${fix}` },
      ...(sources[0] ? { helpUri: sources[0] } : {}),
    }
  })
  const results = findings.map(({ code, confidence, message, assumed, fix, file, line, address }) => ({
    ruleId: code,
    ruleIndex: codes.indexOf(code),
    level: confidence === 'certain' ? 'error' : 'warning',
    message: { text: `${message}${assumed === undefined ? '' : ` (assumes that ${assumed})`}. Fix: ${fix}` },
    locations: [
      {
        physicalLocation: { artifactLocation: { uri: uriOf(file) }, region: { startLine: line } },
        ...(address ? { logicalLocations: [{ fullyQualifiedName: address }] } : {}),
      },
    ],
  }))
  const driver = { name: 'fleet doctor', version, rules }
  return {
    $schema: 'https://json.schemastore.org/sarif-2.1.0.json',
    version: '2.1.0',
    runs: [{ tool: { driver }, columnKind: 'utf16CodeUnits', results }],
  }
}
