import { parseDocument } from 'yaml'
import type { Project } from './project.ts'

const databases = ['postgres', 'postgres-replica']

/** The shipped compose file for an app of one's own: its name, and no database where there are no migrations. */
export function composeFor(text: string, { name, migrates }: Project): string {
  const document = parseDocument(text)
  document.set('name', name)
  document.setIn(['x-image', 'image'], `${name}:\${FLEET_VERSION:-local}`)
  document.setIn(['services', 'app', 'environment', 'FLEET_NAME'], `\${FLEET_NAME:-${name}}`)
  if (!migrates) {
    for (const service of ['migrate', ...databases]) {
      document.deleteIn(['services', service])
      document.deleteIn(['services', 'app', 'depends_on', service])
    }
    for (const volume of databases) document.deleteIn(['volumes', volume])
    for (const variable of ['DATABASE_URL', 'DATABASE_REPLICA_URLS'])
      document.deleteIn(['services', 'app', 'environment', variable])
    document.commentBefore = (document.commentBefore ?? '').replace(
      /A whole fleet:[^\n]*/,
      'A whole fleet: three instances, Redis, and a front. docs/compose.md of fastify-fleet',
    )
  }
  return document.toString({ lineWidth: 0, singleQuote: true })
}
