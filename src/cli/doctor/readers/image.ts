import { type InstanceFacts, probedPath, type Reader } from '../facts.ts'

/** A Dockerfile: the command of process 1 and the path of the health check. */
export const readImage: Reader = (sources) =>
  sources.map(({ file, text }): InstanceFacts => {
    // An instruction with continuation lines is reported at its first line.
    const instructions = text.split(/(?<!\\)\n/)
    let line = 1
    let command: InstanceFacts['command']
    let readiness: InstanceFacts['readiness']
    for (const instruction of instructions) {
      const [, name = '', rest = ''] = /^\s*(CMD|ENTRYPOINT|HEALTHCHECK)\s+(.*)/is.exec(instruction) ?? []
      const clean = rest.replaceAll('\\\n', ' ')
      const path = name.toUpperCase() === 'HEALTHCHECK' ? probedPath(clean) : undefined
      if (path) readiness = { value: path, file, line }
      else if (/^(?:CMD|ENTRYPOINT)$/i.test(name)) command = { value: commandOf(clean), file, line }
      line += instruction.split('\n').length
    }
    const process = { env: new Map(), unseen: 'any', command, readiness } as const
    return { role: 'instance', source: 'image', name: file, file, line: 1, ...process }
  })

/** `["npm", "start"]` is `npm start`. A shell runs plain text and stays process 1 unless the text begins with `exec`. */
function commandOf(text: string): string {
  try {
    const words: unknown = JSON.parse(text)
    if (Array.isArray(words)) return words.join(' ')
  } catch {
    // The shell form.
  }
  return /^exec\s/.test(text.trim()) ? text.trim().slice(5) : `sh -c ${text.trim()}`
}
