// Writes man/fleet.1 and one page for each verb, from the same declarations as `--help`.
//
// node scripts/man.js
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { optionsOf } from '../src/cli/help.ts'
import { verbs } from '../src/cli/verbs.ts'

const root = fileURLToPath(new URL('..', import.meta.url))
const special = { '\\': '\\e', '-': '\\-', "'": '\\(aq', '`': '\\(ga', '^': '\\(ha', '~': '\\(ti' }
const exitStatus = [
  ...entry('0', 'Success'),
  ...entry('1', 'Failure'),
  ...entry('2', 'The command line or the configuration is invalid, or the target is unreachable'),
]

/** The files in man as they should be. */
export async function manPages() {
  const { name, version, description } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const commands = await Promise.all(Object.values(verbs).map(async (load) => (await load()).default))
  const page = (title, sections) => {
    const parts = Object.entries(sections).map(([heading, lines]) => [`.SH ${heading}`, ...lines])
    const head = `.TH ${escaped(title.toUpperCase())} 1 "" "${escaped(`${name} ${version}`)}" "${escaped(name)}"`
    return `${[`.\\" Written by scripts/man.js from src/cli.`, head, ...parts.flat()].join('\n')}\n`
  }
  const overview = page('fleet', {
    NAME: [`fleet \\- ${escaped(description)}`],
    SYNOPSIS: literal(['fleet VERB [options]', 'fleet VERB --help']),
    DESCRIPTION: ['Each verb has a page of its own.'],
    VERBS: commands.flatMap(({ name, summary }) => ['.TP', `\\fB${escaped(`fleet-${name}`)}\\fR(1)`, text(summary)]),
    OPTIONS: [
      ...entry('\\fB\\-h\\fR, \\fB\\-\\-help\\fR', 'Show the verbs, or the options of a verb'),
      ...entry('\\fB\\-v\\fR, \\fB\\-\\-version\\fR', 'Print the version'),
      ...entry('\\fB\\-\\-json\\fR', 'Of every verb: print the result, or the error, as JSON'),
    ],
    'EXIT STATUS': exitStatus,
  })
  const pages = commands.map((command) => {
    const [synopsis = '', ...description] = command.usage.split('\n\n')
    return [
      `fleet-${command.name}.1`,
      page(`fleet-${command.name}`, {
        NAME: [`${escaped(`fleet-${command.name}`)} \\- ${text(command.summary)}`],
        SYNOPSIS: literal(synopsis.split('\n')),
        ...(description.length > 0 && { DESCRIPTION: paragraphs(description) }),
        OPTIONS: optionsOf(command).flatMap(({ name, short, value, text }) => {
          const flags = [...(short ? [`-${short}`] : []), `--${name}`].map((flag) => `\\fB${escaped(flag)}\\fR`)
          return entry(
            `${flags.join(', ')}${value ? ` \\fI${escaped(value)}\\fR` : ''}`,
            value ? `${value} ${text}` : text,
          )
        }),
        'EXIT STATUS': exitStatus,
        'SEE ALSO': ['\\fBfleet\\fR(1)'],
      }),
    ]
  })
  return new Map([['fleet.1', overview], ...pages])
}

function entry(term, description) {
  return ['.TP', term, text(description)]
}

/** Indented lines are examples. */
const paragraphs = (all) =>
  all.flatMap((paragraph, index) => [
    ...(index > 0 ? ['.PP'] : []),
    ...(/^ /.test(paragraph)
      ? literal(paragraph.split('\n').map((line) => line.trim()))
      : paragraph.split('\n').map(text)),
  ])

const literal = (lines) => ['.nf', ...lines.map(escaped), '.fi']

/** A line of text with code in bold. */
function text(line) {
  const parts = line.split('`').map(escaped)
  return parts.map((part, index) => (index % 2 === 1 ? `\\fB${part}\\fR` : part)).join('')
}

/** In ASCII, because older versions of man do not know the encoding. */
function escaped(plain) {
  return plain
    .replace(/[\\'`^~-]/g, (char) => special[char])
    .replace(/[^\x20-\x7e]/gu, (char) => `\\[u${char.codePointAt(0).toString(16).toUpperCase().padStart(4, '0')}]`)
    .replace(/^\./, '\\&.')
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(join(root, 'man'), { recursive: true })
  for (const [file, page] of await manPages()) writeFileSync(join(root, 'man', file), page)
}
