// Touches: nothing private. It stands here because a plain `import` of a value from `node:http` reads every export,
//   including the lazy getters behind `WebSocket`, which load Node's bundled undici: 13 MiB of resident memory.
// Seen in: Node 22 to 24.

/** Node's `http`, loaded without its lazy exports. Types may be imported from `node:http` as usual. */
export const http: typeof import('node:http') = process.getBuiltinModule('node:http')
