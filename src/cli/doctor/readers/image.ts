import type { Instance, Reader } from '../facts.ts'
import { probedPath } from './probed-path.ts'

/** A Dockerfile: what is process 1, and what its health check asks. */
export const readImage: Reader = (sources) =>
  sources.map(({ file, text }): Instance => {
    // A continued line is one instruction; its first line is its place.
    const instructions = text.split(/(?<!\\)\n/)
    let line = 1
    let command: Instance['command']
    let readiness: Instance['readiness']
    for (const instruction of instructions) {
      const [, name = '', rest = ''] = /^\s*(CMD|ENTRYPOINT|HEALTHCHECK)\s+(.*)/is.exec(instruction) ?? []
      const clean = rest.replaceAll('\\\n', ' ')
      const path = name.toUpperCase() === 'HEALTHCHECK' ? probedPath(clean) : undefined
      if (path) readiness = { value: path, file, line }
      else if (/^(?:CMD|ENTRYPOINT)$/i.test(name)) command = { value: commandOf(clean), file, line }
      line += instruction.split('\n').length
    }
    return {
      role: 'instance',
      source: 'image',
      name: file,
      file,
      line: 1,
      env: new Map(),
      unseen: 'any',
      command,
      readiness,
    }
  })

/** `["npm", "start"]` is `npm start`; text is run by a shell, which becomes process 1 unless it says `exec`. */
function commandOf(text: string): string {
  try {
    const words: unknown = JSON.parse(text)
    if (Array.isArray(words)) return words.join(' ')
  } catch {
    // The shell form.
  }
  return /^exec\s/.test(text.trim()) ? text.trim().slice(5) : `sh -c ${text.trim()}`
}
