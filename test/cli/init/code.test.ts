import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { applied } from '../../../src/cli/init/change.ts'
import { instanceIn, isUnclear } from '../../../src/cli/init/instance.ts'
import { listeningOf } from '../../../src/cli/init/listen.ts'
import { registerEdits } from '../../../src/cli/init/register.ts'
import { parseSource } from '../../../src/cli/init/source.ts'

function edited(file: string, text: string, hasLogger = false): string {
  const source = parseSource(file, text, undefined)
  const instance = instanceIn(source)
  assert.ok(instance && !isUnclear(instance))
  const edits = registerEdits(instance, () => '{}', hasLogger)
  return applied({ before: text, edits: [...edits, ...(listeningOf('/none', [source], instance)?.edits ?? [])] })
}

const load = "const { fleet, serverOptions } = require('fastify-fleet')"
const host = "host: process.env.HOST ?? 'localhost'"

describe('the lines of fleet', () => {
  for (const [name, file, before, after] of [
    [
      'stand between statements of one line',
      'a.cjs',
      "var f = require('fastify'), app = f({logger:true}); app.get('/', g); app.listen({port:3000,})",
      `${load};\nvar f = require('fastify'), app = f({...serverOptions(), logger:true});\napp.register(fleet, {});\napp.get('/', g); app.listen({port:Number(process.env.PORT ?? 3000), ${host},})`,
    ],
    [
      'end a last line without a break',
      'a.cjs',
      "const { fastify: make } = require('fastify')\nconst app = make({})",
      `const { fastify: make } = require('fastify')\n${load}\nconst app = make(serverOptions())\napp.register(fleet, {})\n`,
    ],
    [
      'are no call of the line before',
      'a.cjs',
      "const f = require('fastify');\n(function () {})()\nconst app = f(opts)\n",
      `const f = require('fastify');\n${load};\n(function () {})()\nconst app = f({ ...serverOptions(), ...opts })\napp.register(fleet, {})\n`,
    ],
    [
      'come before a function that loads Fastify itself, below directives',
      'a.cjs',
      "#!/usr/bin/env node\n'use strict'\n;(function () {\n\tconst app = require('fastify')()\n})()\n",
      `#!/usr/bin/env node\n'use strict'\n;${load};\n(function () {\n\tconst app = require('fastify')(serverOptions())\n\tapp.register(fleet, {})\n})()\n`,
    ],
    [
      'keep a comment of several lines behind the instance',
      'a.mjs',
      "import F from 'fastify'; const app = F(a ? b : c) /* x\ny */\n",
      "import F from 'fastify';\nimport { fleet, serverOptions } from 'fastify-fleet';\nconst app = F({ ...serverOptions(), ...(a ? b : c) })\nawait app.register(fleet, {})\n/* x\ny */\n",
    ],
    [
      'come behind types at the end of a statement, in an async function',
      'a.ts',
      "import F from 'fastify'\nasync function main() {\n  const app = F(o as O) as App\n  await app.listen({ port: 3000 as number })\n}\n",
      "import F from 'fastify'\nimport { fleet, serverOptions } from 'fastify-fleet'\nasync function main() {\n  const app = F({ ...serverOptions(), ...o } as O) as App\n  await app.register(fleet, {})\n  await app.listen({ port: Number(process.env.PORT ?? 3000) as number })\n}\n",
    ],
  ] as const) {
    it(name, () => {
      assert.equal(edited(file, before), after)
      parseSource(file, after, undefined)
    })
  }

  it('leave a finished logger to the app', () => {
    const line = (options: string): string => `import F from 'fastify'\nconst app = F(${options})\n`
    assert.match(
      edited('a.js', line('options'), true),
      /F\(\{ \.\.\.serverOptions\(\), logger: undefined, \.\.\.options \}\)/,
    )
    assert.match(
      edited('a.js', line('{ ...options }'), true),
      /F\(\{ \.\.\.serverOptions\(\), logger: undefined, \.\.\.options \}\)/,
    )
    assert.match(
      edited('a.js', line('{ loggerInstance }')),
      /F\(\{ \.\.\.serverOptions\(\), logger: undefined, loggerInstance \}\)/,
    )
  })

  it('are found in code that nests deeply', () => {
    const text = `import F from 'fastify'\nconst app = F()\nexport const long = ${"'a' + ".repeat(3_000)}'b'\n`
    assert.match(edited('a.js', text), /^app\.register\(fleet, \{\}\)$/m)
  })
})
