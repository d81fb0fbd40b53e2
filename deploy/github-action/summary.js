// Prints the JSON of `fleet test` as Markdown, for the summary of a job.
import { readFileSync } from 'node:fs'

const marks = { pass: '✓', fail: '✗', skip: '–', info: '·' }
const report = JSON.parse(readFileSync(process.argv[2], 'utf8'))
const lines = report.error
  ? [`✗ ${report.error.message}`]
  : report.findings.map(({ status, check, text, fix }) => `${marks[status]} ${check}: ${text}${fix ? ` → ${fix}` : ''}`)
const title = report.error ? 'could not run' : `of ${report.url}: ${report.verdict === 'pass' ? 'passed' : 'failed'}`
// In a block of code, so that the texts of instances are not Markdown.
process.stdout.write(`### fleet test ${title}\n\n\`\`\`text\n${lines.join('\n').replaceAll('```', "'''")}\n\`\`\`\n`)
