import {
  type Fact,
  factAt,
  type InstanceFacts,
  isForDevelopment,
  probedPath,
  type Reader,
  type Reading,
  type Source,
  unjudged,
  type Variable,
} from '../facts.ts'
import {
  execForm,
  type Instruction,
  instructionsIn,
  instructionsOf,
  lastOf,
  type Stage,
  stagesOf,
} from './dockerfile.ts'
import { commandOf, shellCommandOf, wordsOf } from './process-one.ts'
import { instanceOf, isDevelopment, runsNode, secretsOf } from './signs.ts'

/** Dockerfiles: the command of process 1, the environment and the health check of the last stage. */
export const readImage: Reader = (sources) => sources.flatMap(readOne)

/** Stages that nobody deploys. */
const forDevelopment = /^(?:dev|development|dev-envs|local|debug|tests?|e2e|lint|ci)$/i

function readOne({ file, text }: Source): readonly Reading[] {
  const stages = stagesOf(instructionsOf(file, text))
  const stage = stages.findLast(({ name }) => !forDevelopment.test(name)) ?? stages.at(-1)
  if (!stage) return [unjudged({ file, line: 1 }, 'it has no FROM')]
  const env = environmentOf(stage)
  const command = processOf(stage)
  const isNode = /(?:^|[/-])(?:node|nodejs|bun)(?:js)?(?:[:@/-]|$)/.test(stage.base) || runsNode(command?.value ?? '')
  const named = stages.filter(({ name }) => name !== '' && name !== stage.name)
  const others: Reading[] =
    named.length > 0 ? [unjudged({ file, line: 1 }, 'of several stages the last one is checked')] : []
  if (!isNode) return [...others, unjudged({ file, line: 1 }, 'it does not start Node'), ...secretsOf(env)]
  const instance: InstanceFacts = {
    role: 'instance',
    source: 'image',
    name: file,
    file,
    line: 1,
    ...(instanceOf({ env, command: command?.value, isBuilt: true }) ?? {
      assumed: 'the image is of an instance of a fleet',
    }),
    env,
    unseen: 'any',
    command: command && !isDevelopment(command.value) && !isForDevelopment(file) ? command : undefined,
    readiness: probeOf(stage),
  }
  return [...others, instance]
}

/** ENTRYPOINT with CMD as its arguments. The shell form of ENTRYPOINT has none, and an ENTRYPOINT discards the CMD of its base. */
function processOf(stage: Stage): Fact<string> | undefined {
  const entrypoint = lastOf(stage, 'ENTRYPOINT')
  const lastCmd = lastOf(stage, 'CMD')
  const isOwn = (one: Instruction | undefined): boolean => one !== undefined && stage.own.includes(one)
  const cmd = isOwn(entrypoint) && !isOwn(lastCmd) ? undefined : lastCmd
  const words = entrypoint && execForm(entrypoint.value)
  if (entrypoint && !words) return textFact(shellCommandOf(entrypoint.value), entrypoint)
  const args = cmd && execForm(cmd.value)
  const shell = cmd && !args ? ['sh', '-c', cmd.value] : undefined
  if (words && words.length > 0) {
    const runsShell = /^(?:\S*\/)?(?:ba|da|a)?sh$/.test(words[0] ?? '') && words.length > 1
    const whole = [...words, ...(args ?? shell ?? [])]
    const at = /^(?:\S*\/)?(?:npm|yarn|pnpm|npx)$/.test(words[0] ?? '') || runsShell ? entrypoint : (cmd ?? entrypoint)
    return textFact(commandOf(whole), at)
  }
  if (!cmd) return undefined
  return textFact(args ? commandOf(args) : shellCommandOf(cmd.value), cmd)
}

const textFact = (text: string | undefined, at: Instruction): Fact<string> | undefined =>
  text === undefined ? undefined : factAt(text, at)

function probeOf(stage: Stage): Fact<string> | undefined {
  const check = lastOf(stage, 'HEALTHCHECK')
  const [, command] = /^(?:--\S+\s+)*CMD\s+(.*)$/is.exec(check?.value ?? '') ?? []
  const path = command === undefined ? undefined : probedPath((execForm(command) ?? [command]).join(' '))
  return check && path !== undefined ? factAt(path, check) : undefined
}

/** `ENV A=b C="d e"`, and the old form `ENV A b`. A value of a build argument is not known. */
function environmentOf(stage: Stage): Map<string, Variable> {
  const env = new Map<string, Variable>()
  for (const { name, value, file, line } of instructionsIn(stage)) {
    if (name !== 'ENV') continue
    const [, old, rest = ''] = /^(\w+)\s+(.*)$/s.exec(value) ?? []
    const pairs = old !== undefined && !/^\w+=/.test(value) ? [`${old}=${rest}`] : wordsOf(value)
    for (const pair of pairs) {
      const [variable = '', ...parts] = pair.split('=')
      const text = parts.join('=')
      env.set(variable, { value: text.includes('$') ? undefined : text, file, line })
    }
  }
  return env
}
