import 'fastify'

// Tests set many fields of a session, once each.
declare module 'fastify' {
  interface Session {
    // biome-ignore lint/suspicious/noExplicitAny: `unknown` would not allow `session.visits + 1`
    [field: string]: any
  }
}
