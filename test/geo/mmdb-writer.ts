type Data = string | number | boolean | { [key: string]: Data } | Data[]

/** Writes a MaxMind DB file with an IPv6 tree and IPv4 below ::/96, according to the specification. */
export function writeMmdb(networks: Record<string, Data>, recordSize: 24 | 28 | 32 = 24): Buffer {
  const nodes: [number | string | undefined, number | string | undefined][] = [[undefined, undefined]]
  for (const [network, data] of Object.entries(networks)) insert(nodes, network, JSON.stringify(data))
  const offsets = new Map<string, number>()
  const sections: Buffer[] = []
  let length = 0
  for (const json of new Set(Object.values(networks).map((data) => JSON.stringify(data)))) {
    const bytes = encode(JSON.parse(json))
    offsets.set(json, length)
    sections.push(bytes)
    length += bytes.length
  }
  const recordOf = (side: number | string | undefined): number =>
    typeof side === 'number'
      ? side
      : side === undefined
        ? nodes.length
        : nodes.length + 16 + (offsets.get(side) as number)
  const tree = Buffer.concat(nodes.map(([left, right]) => writeNode(recordOf(left), recordOf(right), recordSize)))
  const metadata = encode({
    binary_format_major_version: 2,
    binary_format_minor_version: 0,
    build_epoch: 1_700_000_000,
    database_type: 'Test-Country',
    description: { en: 'made by a test' },
    ip_version: 6,
    languages: ['en'],
    node_count: nodes.length,
    record_size: recordSize,
  })
  return Buffer.concat([
    tree,
    Buffer.alloc(16),
    ...sections,
    Buffer.from('\xab\xcd\xefMaxMind.com', 'latin1'),
    metadata,
  ])
}

type Node = [number | string | undefined, number | string | undefined]

function insert(nodes: Node[], network: string, json: string): void {
  const [address = '', prefix] = network.split('/')
  const ipv4 = !address.includes(':')
  const bits = ipv4
    ? [...Array<number>(96).fill(0), ...bitsOf(address.split('.').map(Number), 8)]
    : bitsOf(words(address), 16)
  const depth = Number(prefix) + (ipv4 ? 96 : 0)
  let node = 0
  for (let i = 0; i < depth; i++) {
    const side = bits[i] as 0 | 1
    const pair = nodes[node] as Node
    if (i === depth - 1) pair[side] = json
    else {
      if (typeof pair[side] !== 'number') {
        pair[side] = nodes.length
        nodes.push([undefined, undefined])
      }
      node = pair[side] as number
    }
  }
}

const bitsOf = (values: readonly number[], width: number): number[] =>
  values.flatMap((value) => Array.from({ length: width }, (_, i) => (value >> (width - 1 - i)) & 1))

function words(address: string): number[] {
  const [head = '', tail = ''] = address.split('::')
  const list = (text: string): number[] => (text === '' ? [] : text.split(':').map((word) => Number.parseInt(word, 16)))
  const [a, b] = [list(head), list(tail)]
  return [...a, ...Array<number>(8 - a.length - b.length).fill(0), ...b]
}

function writeNode(left: number, right: number, size: number): Buffer {
  const node = Buffer.alloc(size / 4)
  if (size === 24) {
    node.writeUIntBE(left, 0, 3)
    node.writeUIntBE(right, 3, 3)
  } else if (size === 32) {
    node.writeUInt32BE(left, 0)
    node.writeUInt32BE(right, 4)
  } else {
    node.writeUIntBE(left & 0xffffff, 0, 3)
    node.writeUInt8(((left >>> 24) << 4) | (right >>> 24), 3)
    node.writeUIntBE(right & 0xffffff, 4, 3)
  }
  return node
}

function encode(value: Data): Buffer {
  if (typeof value === 'string') return Buffer.concat([control(2, Buffer.byteLength(value)), Buffer.from(value)])
  if (typeof value === 'boolean') return control(14, value ? 1 : 0)
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) {
    const hex = value === 0 ? '' : value.toString(16)
    const bytes = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex')
    return Buffer.concat([control(bytes.length > 2 ? 6 : 5, bytes.length), bytes])
  }
  if (typeof value === 'number') {
    const bytes = Buffer.alloc(8)
    bytes.writeDoubleBE(value)
    return Buffer.concat([control(3, 8), bytes])
  }
  if (Array.isArray(value)) return Buffer.concat([control(11, value.length), ...value.map(encode)])
  const entries = Object.entries(value)
  return Buffer.concat([
    control(7, entries.length),
    ...entries.flatMap(([key, member]) => [encode(key), encode(member)]),
  ])
}

function control(type: number, size: number): Buffer {
  const [first, more] =
    size < 29 ? [size, []] : size < 285 ? [29, [size - 29]] : [30, [(size - 285) >> 8, (size - 285) & 255]]
  return type < 8 ? Buffer.from([(type << 5) | first, ...more]) : Buffer.from([first, type - 7, ...more])
}
