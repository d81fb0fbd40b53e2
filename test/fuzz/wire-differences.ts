import type { Exchange } from './engine/responses.ts'

interface Seen {
  /** The bytes of the response, one character each. */
  readonly text: string
  readonly own: Exchange
  readonly node: Exchange
}

/** An intended difference between the proxy's response parser and Node's; docs/fuzzing.md gives the reasons. */
export interface Difference {
  /** As in the table of docs/fuzzing.md. */
  readonly name: string
  applies(seen: Seen): boolean
}

/** The heads of the interim responses, and of the final one. */
function heads(text: string): string[] {
  const end = text.indexOf('\r\n\r\n')
  const head = end < 0 ? text : text.slice(0, end)
  return end >= 0 && /^HTTP\/1\.\d 1/.test(head) ? [head, ...heads(text.slice(end + 4))] : [head]
}
const fieldLines = (text: string): string[] => heads(text).flatMap((head) => head.split('\r\n').slice(1))
const values = (text: string, name: string): string[] =>
  fieldLines(text)
    .filter((line) => line.toLowerCase().startsWith(`${name}:`))
    .map((line) => line.slice(name.length + 1).replace(/^[ \t]+|[ \t]+$/g, ''))

const isRejected = ({ own, node }: Seen): boolean => own.outcome === 'rejected' && node.outcome !== 'rejected'
const isCut = ({ own, node }: Seen): boolean => own.outcome === 'cut' && node.outcome === 'complete'
const rejected = (name: string, applies: (seen: Seen) => boolean): Difference => ({
  name,
  applies: (seen) => isRejected(seen) && applies(seen),
})

/** The body has the length of its framing, so it is complete. */
function isWhole({ text, own }: Seen): boolean {
  const length = own.headers.find((line) => line.startsWith('content-length: '))
  if (own.body === '' || (length !== undefined && own.body.length === Number(length.slice(16)))) return true
  return own.headers.some((line) => /^transfer-encoding: chunked$/i.test(line)) && /\r\n0+(?:;[^\n]*)?\r\n/.test(text)
}

export const differences: readonly Difference[] = [
  {
    name: 'excess bytes',
    applies: (seen) => seen.own.outcome === 'complete' && seen.node.outcome === 'cut' && isWhole(seen),
  },
  rejected('bare line ends', ({ text }) => /\r(?!\n)|(?<!\r)\n/.test(heads(text).join('\r\n'))),
  rejected('control bytes', ({ text }) => /[^\t\r\n\x20-\x7e\x80-\xff]/.test(heads(text).join('\r\n'))),
  rejected('status line', ({ text }) =>
    heads(text).some((head) => !/^HTTP\/1\.[01] [1-9]\d\d(?: .*)?(?:\r|$)/.test(head)),
  ),
  rejected('field lines', ({ text }) => fieldLines(text).some((line) => !/^[\w!#$%&'*+.^`|~-]+:/.test(line))),
  rejected('101 without an upgrade', ({ text }) => heads(text).some((head) => /^HTTP\/1\.[01] 101/.test(head))),
  rejected('repeated Content-Length', ({ text }) => values(text, 'content-length').length > 1),
  rejected('Content-Length that is not one number', ({ text }) =>
    values(text, 'content-length').some((value) => !/^\d{1,15}$/.test(value)),
  ),
  rejected('Transfer-Encoding other than chunked', ({ text }) =>
    values(text, 'transfer-encoding').some((value) => value.toLowerCase() !== 'chunked'),
  ),
  rejected('repeated Transfer-Encoding', ({ text }) => values(text, 'transfer-encoding').length > 1),
  rejected('Transfer-Encoding in HTTP/1.0', ({ text }) => /^HTTP\/1\.0/m.test(text) && /transfer-encoding/i.test(text)),
  rejected('both lengths', ({ text }) => /content-length/i.test(text) && /transfer-encoding/i.test(text)),
  {
    name: 'Connection in an interim response',
    applies: ({ text, own, node }) =>
      own.outcome !== 'rejected' &&
      node.outcome === 'rejected' &&
      heads(text)
        .slice(0, -1)
        .some((head) => /^connection:/im.test(head)),
  },
  {
    name: 'tab after chunked',
    applies: ({ text, own }) => own.outcome !== 'rejected' && /^transfer-encoding:[ \t]*chunked *\t/im.test(text),
  },
  { name: 'chunk syntax', applies: (seen) => isCut(seen) && /transfer-encoding: *chunked/i.test(seen.text) },
]
