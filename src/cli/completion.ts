import type { Command } from './args.ts'
import { type OptionHelp, optionsOf } from './help.ts'

/** Writers of completion scripts, from the table of options that `--help` shows. The scripts start no process on a TAB. */
export const shells: Readonly<Record<string, (verbs: readonly Command[]) => string>> = { bash, zsh, fish }

const flagsOf = ({ name, short }: OptionHelp): readonly string[] => [`--${name}`, ...(short ? [`-${short}`] : [])]
/** Begins with the name of the value, as in the declaration. */
const described = ({ value, text }: OptionHelp): string => (value === undefined ? text : `${value} ${text}`)
const quote = (text: string): string => `'${text.replaceAll("'", `'\\''`)}'`
/** Patterns of `case` for the options of one verb. */
const patterns = (verb: string, options: readonly OptionHelp[]): string =>
  options.flatMap((option) => flagsOf(option).map((flag) => `${verb}:${flag}`)).join('|')

function bash(verbs: readonly Command[]): string {
  const values = verbs.flatMap((command) => {
    const taken = optionsOf(command).filter(({ value }) => value !== undefined)
    const chosen = taken
      .filter(({ choices }) => choices)
      .map((option) => [patterns(command.name, [option]), `_fleet_words ${quote(option.choices?.join(' ') ?? '')}`])
    const files = taken.filter(({ isFile }) => isFile)
    const others = taken.filter(({ choices, isFile }) => !choices && !isFile)
    return [
      ...chosen,
      ...(files.length > 0 ? [[patterns(command.name, files), ':']] : []),
      ...(others.length > 0 ? [[patterns(command.name, others), '_fleet_words ""']] : []),
    ].map(([pattern, action]) => `    ${pattern}) ${action}; return ;;`)
  })
  const words = verbs.map((command) => {
    const { words = [], files } = command.suggest ?? {}
    const first =
      words.length > 0 ? `[ "$COMP_CWORD" -eq 2 ] && _fleet_words ${quote(words.join(' '))} && return; ` : ''
    const flags = optionsOf(command).map(({ name }) => `--${name}`)
    return `    ${command.name}:-*) _fleet_words ${quote(flags.join(' '))} ;;
    ${command.name}:*) ${first}${files ? ':' : '_fleet_words ""'} ;;`
  })
  const names = verbs.map(({ name }) => name).join(' ')
  return `# bash completion of fleet
_fleet_words() {
  # Without these words, readline would suggest files.
  compopt +o default 2>/dev/null
  COMPREPLY=($(compgen -W "$1" -- "$current"))
  return 0
}
_fleet() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} word
  COMPREPLY=()
  # bash splits --option=value into three words.
  if [ "$current" = = ]; then current=; fi
  if [ "$previous" = = ]; then previous=\${COMP_WORDS[COMP_CWORD - 2]}; fi
  if [ "$COMP_CWORD" -eq 1 ]; then _fleet_words '${names} help --help --version'; return; fi
  for word in "\${COMP_WORDS[@]:0:COMP_CWORD}"; do [ "$word" = -- ] && return; done
  case "\${COMP_WORDS[1]}:$previous" in
${values.join('\n')}
  esac
  case "\${COMP_WORDS[1]}:$current" in
${words.join('\n')}
    help:*) _fleet_words '${names}' ;;
  esac
}
complete -o default -F _fleet fleet
`
}

function zsh(verbs: readonly Command[]): string {
  const escaped = (text: string): string => text.replace(/[\\[\]:]/g, '\\$&')
  const cases = verbs.map((command) => {
    const options = optionsOf(command).map((option) => {
      const { value, multiple, choices, isFile } = option
      const action = choices ? `(${choices.join(' ')})` : isFile ? '_files' : ' '
      const takes = value === undefined ? '' : `:${value}:${action}`
      const exclusive = multiple ? '*' : `(${flagsOf(option).join(' ')})`
      return flagsOf(option).map((flag) => {
        const style = value === undefined ? '' : flag.startsWith('--') ? '=' : '+'
        return `      ${quote(`${exclusive}${flag}${style}[${escaped(described(option))}]${takes}`)}`
      })
    })
    const { words, files } = command.suggest ?? {}
    const first = words ? [`      ${quote(`1:argument:(${words.join(' ')})`)}`] : []
    const rest = files ? ["      '*:file:_files'"] : []
    return `    ${command.name}) _arguments -s -S \\\n${[...options.flat(), ...first, ...rest].join(' \\\n')} ;;`
  })
  return `#compdef fleet
# zsh completion of fleet
_fleet() {
  local -a verbs=(
${verbs.map(({ name, summary }) => `    ${quote(`${name}:${summary}`)}`).join('\n')}
    'help:Show the help of a verb'
  )
  if (( CURRENT == 2 )); then _describe -t verbs verb verbs; return; fi
  shift words
  (( CURRENT-- ))
  case $words[1] in
    help) _describe -t verbs verb verbs ;;
${cases.join('\n')}
  esac
}
# In a folder of $fpath the file is the function; otherwise it was sourced.
if [ "$funcstack[1]" = _fleet ]; then _fleet "$@"; else compdef _fleet fleet; fi
`
}

function fish(verbs: readonly Command[]): string {
  const quoted = (text: string): string => `'${text.replace(/['\\]/g, '\\$&')}'`
  const lines = verbs.flatMap((command) => {
    const { words = [], files } = command.suggest ?? {}
    const of = `complete -c fleet -n ${quoted(`__fleet_verb ${command.name}`)}`
    const options = optionsOf(command).map((option) => {
      const { name, short, value, choices, isFile } = option
      const takes =
        value === undefined ? '' : isFile ? ' -r -F' : ` -x${choices ? ` -a ${quoted(choices.join(' '))}` : ''}`
      return `${of}${short ? ` -s ${short}` : ''} -l ${name}${takes} -d ${quoted(described(option))}`
    })
    const first = quoted(`__fleet_verb ${command.name}; and test (count (commandline -opc)) -eq 2`)
    return [
      `complete -c fleet -n __fleet_no_verb -a ${command.name} -d ${quoted(command.summary)}`,
      ...(files ? [`${of} -F`] : []),
      ...(words.length > 0 ? [`complete -c fleet -n ${first} -a ${quoted(words.join(' '))}`] : []),
      ...options,
    ]
  })
  return `# fish completion of fleet
function __fleet_no_verb
  test (count (commandline -opc)) -eq 1
end
function __fleet_verb
  set -l words (commandline -opc)
  test (count $words) -ge 2; and test "$words[2]" = "$argv[1]"
end
complete -c fleet -f
${lines.join('\n')}
complete -c fleet -n __fleet_no_verb -a help -d 'Show the help of a verb'
complete -c fleet -n '__fleet_verb help' -a '${verbs.map(({ name }) => name).join(' ')}'
`
}
