import { isPair, isScalar, parseAllDocuments, parseDocument, type Scalar, visit, type YAMLSeq } from 'yaml'
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
    for (const variable of ['DATABASE_URL_FILE', 'DATABASE_REPLICA_URLS_FILE'])
      document.deleteIn(['services', 'app', 'environment', variable])
    const secrets = ['configs', 'given', 'content']
    const content = document.getIn(secrets, true) as Scalar<string>
    content.value = content.value.replaceAll(/^(?:POSTGRES|REPLICATION)_PASSWORD=.*\n/gm, '')
    document.commentBefore = (document.commentBefore ?? '').replace(
      /A whole fleet:[^\n]*/,
      'A whole fleet: three instances, Redis, and a front. docs/compose.md of fastify-fleet',
    )
  }
  return document.toString({ lineWidth: 0, singleQuote: true })
}

/** The same for the stack file of a swarm. */
export function stackFor(text: string, { name, migrates }: Project): string {
  const document = parseDocument(text)
  document.setIn(['x-image', 'image'], `\${FLEET_IMAGE:-${name}}:\${FLEET_VERSION:-local}`)
  if (!migrates) {
    for (const service of ['migrate', ...databases]) document.deleteIn(['services', service])
    const names = document.getIn(['services', 'app', 'secrets']) as YAMLSeq<Scalar<string>>
    names.items = names.items.filter(({ value }) => !value.startsWith('DATABASE_'))
    for (const secret of ['POSTGRES_PASSWORD', 'REPLICATION_PASSWORD', 'DATABASE_URL', 'DATABASE_REPLICA_URLS'])
      document.deleteIn(['secrets', secret])
  }
  return document.toString({ lineWidth: 0, singleQuote: true })
}

/** Replaces values of mappings in the text of a YAML file; comments and formatting stay. */
export function replaceScalars(text: string, replace: (key: string, value: string) => string | undefined): string {
  const edits: { start: number; end: number; value: string }[] = []
  for (const document of [parseAllDocuments(text)].flat()) {
    visit(document, {
      Scalar(position, { value, range }, path) {
        const pair = path.at(-1)
        if (position !== 'value' || !range || !isPair(pair) || !isScalar(pair.key)) return
        const fresh = replace(String(pair.key.value), String(value))
        if (fresh !== undefined) edits.push({ start: range[0], end: range[1], value: fresh })
      },
    })
  }
  return edits.reduceRight((edited, { start, end, value }) => edited.slice(0, start) + value + edited.slice(end), text)
}
