import assert from 'node:assert/strict'
import { execFile, spawnSync } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { before, describe, it, type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { dispatch } from '../../src/cli/dispatch.ts'
import { Output } from '../../src/cli/output.ts'
import { temporaryFolder } from '../../src/cli/up/child.ts'
import { verbs } from '../../src/cli/verbs.ts'

const folder = temporaryFolder('completion')
const scripts: Record<string, string> = {}

async function fleet(...argv: string[]): Promise<{ code: number; stdout: string }> {
  let stdout = ''
  const out = new Output({ stdout: { write: (text: string) => (stdout += text) }, stderr: { write: () => undefined } })
  return { code: await dispatch(verbs, argv, out), stdout }
}

/** Runs a program in a folder with two files, without the user's settings. */
async function run(t: TestContext, shell: string, args: string[]): Promise<string | undefined> {
  if (spawnSync(shell, ['--version']).error) {
    t.skip(`${shell} is not on PATH`)
    return undefined
  }
  const env = { PATH: process.env.PATH, HOME: folder, TERM: 'dumb', LANG: 'C.UTF-8' }
  return (await promisify(execFile)(shell, args, { cwd: join(folder, 'files'), env })).stdout
}

/** What a shell suggests after these words; files and folders are `app.js` and `html`. */
const cases: readonly [line: string, suggested: readonly string[]][] = [
  ['fleet und', ['undrain']],
  ['fleet d', ['deploy', 'doctor', 'drain']],
  ['fleet help sta', ['start', 'status']],
  ['fleet up --fr', ['--front']],
  ['fleet up --front ', ['haproxy', 'nginx', 'node']],
  ['fleet up -f ha', ['haproxy']],
  ['fleet up --with p', ['postgres']],
  ['fleet up a', ['app.js']],
  ['fleet init a', ['app.js']],
  ['fleet start a', ['app.js']],
  ['fleet doctor a', ['app.js']],
  ['fleet deploy canary a', ['app.js']],
  ['fleet eject nginx a', ['app.js']],
  ['fleet test --html a', ['app.js']],
  ['fleet test --requests ', []],
  ['fleet ps ', []],
  ['fleet ps --jso', ['--json']],
  ['fleet ps -- --js', []],
  ['fleet migrate --dir a', ['app.js']],
  ['fleet deploy blu', ['blue-green']],
  ['fleet completion ', ['bash', 'fish', 'zsh']],
]

describe('fleet completion', () => {
  before(async () => {
    mkdirSync(join(folder, 'files'))
    writeFileSync(join(folder, 'files', 'app.js'), '')
    for (const shell of ['bash', 'zsh', 'fish']) {
      scripts[shell] = join(folder, shell)
      writeFileSync(scripts[shell], (await fleet('completion', shell)).stdout)
    }
  })

  it('completes verbs, options, values and files in bash', async (t) => {
    const script = `source ${scripts.bash}
while IFS= read -r line; do
  read -ra COMP_WORDS <<<"$line"; [[ $line == *' ' ]] && COMP_WORDS+=('')
  COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); files=yes
  compopt() { files=; }
  _fleet
  # Without words of its own, readline suggests files, as it is asked to.
  [ -n "$files" ] && COMPREPLY=($(compgen -f -- "\${COMP_WORDS[COMP_CWORD]}"))
  echo "\${COMPREPLY[*]}"
done`
    const lines = `${cases.map(([line]) => line).join('\n')}\n`
    const said = await run(t, 'bash', ['--norc', '-c', `${script} <<'LINES'\n${lines}LINES`])
    if (said === undefined) return
    const suggested = said.trimEnd().split('\n')
    for (const [i, [line, words]] of cases.entries())
      assert.deepEqual((suggested[i] ?? '').split(' ').filter(Boolean).sort(), words, line)
  })

  it('completes a value after = in bash', async (t) => {
    const words = `COMP_WORDS=(fleet up --front = ha); COMP_CWORD=4; _fleet; echo "\${COMPREPLY[*]}"
unset 'COMP_WORDS[4]'; COMP_CWORD=3; _fleet; echo "\${COMPREPLY[*]}"`
    const said = await run(t, 'bash', ['--norc', '-c', `source ${scripts.bash}; ${words}`])
    if (said !== undefined) assert.equal(said, 'haproxy\nnginx haproxy node\n')
  })

  it('completes verbs, options, values and files in fish', async (t) => {
    const ask = cases.map(([line]) => `complete -C '${line}'; echo ==`).join('\n')
    const said = await run(t, 'fish', ['--no-config', '-c', `source ${scripts.fish}\n${ask}`])
    if (said === undefined) return
    const suggested = said.split('==\n')
    for (const [i, [line, words]] of cases.entries()) {
      const found = (suggested[i] ?? '').split('\n').filter(Boolean)
      assert.deepEqual(found.map((each) => each.split('\t')[0]).sort(), words, line)
    }
    assert.match(said, /^undrain\tReturn a drained instance to rotation$/m)
    assert.match(said, /^--front\tNAME of the front: nginx/m)
  })

  for (const how of ['sourced', 'in a folder of $fpath'])
    it(`completes verbs, options, values and files in zsh, ${how}`, async (t) => {
      const functions = join(folder, 'functions')
      mkdirSync(functions, { recursive: true })
      const load =
        how === 'sourced'
          ? `autoload -U compinit; compinit -u -D; source ${scripts.zsh}`
          : `cp ${scripts.zsh} ${functions}/_fleet; fpath=(${functions} $fpath); autoload -U compinit; compinit -u -D`
      const unique = cases.filter(([, words]) => words.length === 1)
      // A second zsh, on a terminal of its own, gets a TAB after each line and prints the line as it is then.
      const script = `zmodload zsh/zpty
zpty z zsh -f -i
zpty -w z ${JSON.stringify(`COLUMNS=400; ${load}`).replaceAll('$', '\\$')}
zpty -w z 'show() { zle complete-word; print -r -- "<$BUFFER>"; BUFFER= }; zle -N show; bindkey "^I" show'
${unique.map(([line]) => `zpty -w -n z '${line}'$'\\t'`).join('\n')}
zpty -w z exit
while zpty -r z line; do print -rn -- "$line"; done`
      const said = await run(t, 'zsh', ['-f', '-c', script])
      if (said === undefined) return
      const completed = [...said.matchAll(/<(fleet [^>]*)>/g)].map(([, line = '']) => line.trimEnd())
      const expected = unique.map(([line, [word]]) => line.replace(/\S*$/, word ?? ''))
      assert.deepEqual(
        completed.map((line) => line.replace(/=$/, '')),
        expected,
      )
    })

  it('prints the script as JSON, and rejects other shells', async () => {
    const { stdout } = await fleet('completion', 'zsh', '--json')
    assert.match((JSON.parse(stdout) as { script: string }).script, /^#compdef fleet\n/)
    for (const argv of [[], ['csh'], ['bash', 'zsh'], ['constructor']])
      assert.equal((await fleet('completion', ...argv)).code, 2)
  })
})
