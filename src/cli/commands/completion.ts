import { type Command, defineCommand, usageError } from '../args.ts'
import { shells } from '../completion.ts'

const names = Object.keys(shells)

const command: Command = defineCommand({
  name: 'completion',
  summary: 'Print the completions for bash, zsh or fish',
  usage: `fleet completion ${names.join('|')}

  bash: fleet completion bash > ~/.local/share/bash-completion/completions/fleet
  zsh:  fleet completion zsh > "\${fpath[1]}/_fleet"
  fish: fleet completion fish > ~/.config/fish/completions/fleet.fish

Open a new shell afterwards. In bash, the package bash-completion loads the file; without it, add
\`source <(fleet completion bash)\` to ~/.bashrc. Repeat this after an update.`,
  options: {},
  suggest: { words: names },
  async run({ positionals: [shell = '', ...more], out, verbs }) {
    const write = Object.hasOwn(shells, shell) ? shells[shell] : undefined
    if (!write || more.length > 0) throw usageError(`expected one of ${names.join(', ')}`)
    const loaded = await Promise.allSettled(Object.values(verbs).map((load) => load()))
    // Without the optional package of a verb, the others are completed.
    const script = write(loaded.flatMap((verb) => (verb.status === 'fulfilled' ? [verb.value.default] : [])))
    out.result({ shell, script })
    out.line(script.trimEnd())
    return 0
  },
})
export default command
