import { parseArgs } from 'node:util'
import { fuzz } from './engine/fuzz.ts'
import { fileOf, targets } from './engine/targets.ts'

const usage = `npm run fuzz -- [TARGET...] [--seconds N] [--seed N] [--input BASE64]

  --seconds N      how long to fuzz each target (default 10)
  --seed N         repeats a run (default: a random one, which is printed)
  --input BASE64   tries this one input
  --list           prints the names of the targets`

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '10' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    input: { type: 'string' },
    list: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
})
const chosen = positionals.length > 0 ? positionals : targets
const unknown = chosen.find((name) => !targets.includes(name))
const [seconds, seed] = [Number(values.seconds), Number(values.seed)]

if (values.help) console.log(usage)
else if (values.list) console.log(targets.join('\n'))
else if (unknown !== undefined || !(seconds >= 0) || !Number.isSafeInteger(seed)) {
  console.error(unknown === undefined ? usage : `unknown target ${unknown}; expected one of ${targets.join(', ')}`)
  process.exitCode = 2
} else {
  const inputs = values.input === undefined ? undefined : [Buffer.from(values.input, 'base64')]
  for (const name of chosen) {
    const ms = inputs ? 0 : seconds * 1000
    const { inputs: count, outcomes, failure } = await fuzz({ file: fileOf(name), seed, ms, inputs })
    if (!failure) {
      console.log(`ok    ${name}: ${count} inputs, ${outcomes} outcomes, seed ${seed}`)
      continue
    }
    process.exitCode = 1
    console.log(`${failure.kind.padEnd(5)} ${name}: after ${count} inputs, seed ${seed}`)
    console.log(failure.detail.replace(/^/gm, '      '))
    console.log(`      input: ${JSON.stringify(failure.input.toString('latin1')).slice(0, 500)}`)
    console.log(`      reproduce: npm run fuzz -- ${name} --input ${failure.input.toString('base64')}`)
  }
}
