/**
 * Node's `http`. An `import` from `node:http` reads every member that it exports, also the getters behind `WebSocket` and
 * its events, which load the whole of Node's own undici for it: 13 MiB of resident memory that a server has no use for (Node
 * 22 to 24). What is asked for like this is not read; types may be imported as ever.
 */
export const http: typeof import('node:http') = process.getBuiltinModule('node:http')
