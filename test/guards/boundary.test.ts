import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'

const edge = fileURLToPath(new URL('../../src/edge', import.meta.url))

/** Calls that pass a callback to Node, which invokes it without an enclosing catch. */
const entrance =
  /\.(?:on|once|addListener|prependListener|prependOnceListener|setTimeout)\(|\b(?:setTimeout|setInterval|setImmediate|queueMicrotask)\(|\.nextTick\(/g
/** The source of the callback: the last argument of `on`, the first one of a timer. */
function argumentsFrom(text: string, start: number): string[] {
  const list: string[] = []
  let depth = 0
  let from = start
  for (let at = start; at < text.length; at++) {
    const char = text[at] as string
    if (/["'`]/.test(char)) at = text.indexOf(char, at + 1)
    else if ('([{'.includes(char)) depth++
    else if (')]}'.includes(char) && --depth < 0) return [...list, text.slice(from, at).trim()]
    else if (char === ',' && depth === 0) {
      list.push(text.slice(from, at).trim())
      from = at + 1
    }
  }
  return list
}

/** A single call that cannot throw, or nothing. */
const harmless =
  /^(?:async )?\([^()]*\)(?:: \w+)? => (?:\{\}|(?:void )?(?:[\w.#?]+\.(?:destroy|delete|add|push|close|resume|leave|done)|clearTimeout|clearInterval|resolve|settle)\([^()]*\)|[\w.#?]+\.(?:destroy|close)\([^()]*\))$/

/** @param text of a file, without comments */
function isGuarded(callback: string, text: string): boolean {
  if (/^guard\(|^\([^()]*\) => \{\n\s+try \{/.test(callback) || harmless.test(callback)) return true
  if (!/^[\w.#]+$/.test(callback)) return false
  const declared = new RegExp(`\\b(?:const ${callback}\\b[^=\\n]*= |function ${callback}\\()`).exec(text)
  if (!declared) return false
  const rest = text.slice(declared.index + declared[0].length)
  // A function that catches by itself, a guarded one, or a harmless line.
  return (
    /^guard\(/.test(rest) || harmless.test((rest.split('\n')[0] as string).trim()) || /^[^\n]*\{\n\s+try \{/.test(rest)
  )
}

interface Entrance {
  where: string
  callback: string
}

function unguarded(file: string, text: string): Entrance[] {
  const source = text.replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, (comment) => comment.replace(/[^\n]/g, ' '))
  return [...source.matchAll(entrance)].flatMap((match) => {
    const given = argumentsFrom(source, match.index + match[0].length)
    const timer = /Timeout|Interval|Immediate|Tick|Microtask/.test(match[0]) && !match[0].startsWith('.setTimeout')
    const callback = (timer ? given[0] : given[1]) ?? ''
    // A declaration, a call without a callback, or a method of the same name.
    if (callback === '' || /^(?:undefined|ms)$/.test(callback)) return []
    const where = `${file}:${source.slice(0, match.index).split('\n').length}`
    return isGuarded(callback, source) ? [] : [{ where, callback: callback.slice(0, 80) }]
  })
}

/** It only rejects the promise of `listen()`. */
const exceptions: ReadonlySet<string> = new Set(['listen.ts'])

describe('the boundary around each connection', () => {
  const files = readdirSync(edge, { recursive: true, encoding: 'utf8' }).filter((file) => file.endsWith('.ts'))

  it('is around every callback of a socket, a parser and a timer', () => {
    const found = files
      .filter((file) => !exceptions.has(file))
      .flatMap((file) => unguarded(file, readFileSync(join(edge, file), 'utf8')))
    assert.deepEqual(found, [], 'register callbacks through guard() of boundary.ts')
  })

  it('is reported missing where a callback is registered without it', () => {
    for (const line of [
      "socket.on('data', (chunk) => this.#read(chunk))",
      "socket.once('close', this.closed)",
      'setTimeout(() => this.#look(), ms)',
      'process.nextTick(flush, this)',
      "socket.on('end', () => {\n  parse()\n})",
    ]) {
      assert.equal(unguarded('x.ts', line).length, 1, line)
    }
    for (const line of [
      "socket.on('data', guard('x', (chunk) => read(chunk)))",
      "socket.on('error', () => socket.destroy())",
      "socket.on('error', () => {})",
      'const end = guard("x", () => look())\nsetTimeout(end, 10)',
    ]) {
      assert.equal(unguarded('x.ts', line).length, 0, line)
    }
  })
})
