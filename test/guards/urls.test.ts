import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const folders = ['src', 'deploy', 'scripts', 'bench', 'prisma']

/** The arguments of a call whose opening parenthesis precedes `start`; brackets and quotes within them are skipped. */
function argumentsAt(text: string, start: number): string[] {
  const found: string[] = []
  let [depth, quote, from] = [0, '', start]
  for (let i = start; i < text.length; i++) {
    const char = text[i] as string
    if (quote !== '') {
      if (char === '\\') i++
      else if (char === quote) quote = ''
    } else if (/['"`]/.test(char)) quote = char
    else if (/[([{]/.test(char)) depth++
    else if (/[)\]}]/.test(char) && depth-- === 0)
      return [...found, text.slice(from, i).trim()].filter((arg) => arg !== '')
    else if (char === ',' && depth === 0) {
      found.push(text.slice(from, i).trim())
      from = i + 1
    }
  }
  return found
}

const isLiteral = (argument: string): boolean => /^(['"])[^'"]*\1$/.test(argument) || /^`[^`$]*`$/.test(argument)

/**
 * Calls that resolve a non-literal against a base. `//host`, `/\host` and `scheme:` replace the origin of the base, so
 * only files beside a module may be resolved like this.
 */
function resolvedReferences(text: string): string[] {
  const calls = text.matchAll(/\b(?:new URL|URL\.(?:parse|canParse))\(/g)
  return [...calls].flatMap((call) => {
    const [reference = '', base] = argumentsAt(text, call.index + call[0].length)
    const safe = base === undefined || base === 'import.meta.url' || isLiteral(reference)
    return safe ? [] : [`${call[0]}${reference}, ${base})`]
  })
}

/**
 * The raw request target names a route in many ways (`/%61pi`, `//api`, `/api;x`): a rule must use
 * `request.routeOptions`, or, in a proxy, the canonical path. In these files it is not a rule, or the rule fails
 * closed.
 */
const targetsRead: Readonly<Record<string, string>> = {
  'src/app/build.ts': 'text of the 404',
  'src/edge/http/admin.ts': 'routes of this server itself, behind its authentication',
  'src/edge/plugin/forwarder.ts': 'passed to a function of the app',
  'src/edge/plugin/index.ts': 'read by targetOf(); the part below the prefix that Fastify matched',
  'src/edge/plugin/reply-from.ts': 'read by targetOf(); the route has matched',
  'src/geo/index.ts': 'the same target in another region',
  'src/instance/overload/fast-reject.ts': 'sheds only what was routed under exactly this spelling',
  'src/state/http-cache/internal-request.ts': 'the target is routed again, and only the same one is stored',
  'src/state/http-cache/response-cache.ts': 'each spelling has an entry of its own',
  'src/state/session/cookie.ts': 'as a browser matches the path of a cookie; another spelling has no session',
}

describe('a request target', () => {
  it('is read unparsed only where it is not a rule', () => {
    const readers = readdirSync(join(root, 'src'), { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.ts') && !/generated|node_modules/.test(file))
      .map((file) => join('src', file))
      .filter((file) =>
        /\b(?:request|req|incoming|raw)\.url\b|\boriginalUrl\b/.test(readFileSync(join(root, file), 'utf8')),
      )
    assert.deepEqual(readers.toSorted(), Object.keys(targetsRead).toSorted())
  })
})

describe('a URL', () => {
  it('is never an external reference resolved against a base; use urlAt()', () => {
    const files = folders.flatMap((folder) =>
      readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
        .filter((file) => /\.(?:[cm]?[jt]s|html)$/.test(file) && !/generated|node_modules/.test(file))
        .map((file) => join(folder, file)),
    )
    assert.ok(files.length > 100)
    const wrong = files.flatMap((file) =>
      resolvedReferences(readFileSync(join(root, file), 'utf8')).map((call) => `${file}: ${call}`),
    )
    assert.deepEqual(wrong, [])
  })

  it('is detected by this guard in every form', () => {
    for (const call of [
      'new URL(path, base)',
      'new URL(url.pathname + url.search, region.url)',
      'new URL(`/x/$' + '{id}`, origin)',
      'URL.parse(request.url, "http://localhost")',
      'URL.canParse(text,\n  base,\n)',
      "new URL(next(['a', ')'], { b }), base)",
    ]) {
      assert.equal(resolvedReferences(call).length, 1, call)
    }
    for (const call of [
      "new URL('/ready', base)",
      'new URL(file, import.meta.url)',
      'new URL(`programs/$' + '{file}`, import.meta.url)',
      'new URL(given)',
    ]) {
      assert.deepEqual(resolvedReferences(call), [], call)
    }
  })
})
