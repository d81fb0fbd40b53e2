import { FleetError } from '../base/errors.ts'
import { hostUrls, type PostgresSettings, postgresSettings } from '../base/postgres-url.ts'

/** Parameters that this project applies. Others are those of `pg`. */
const applied: readonly string[] = [
  ...['schema', 'connection_limit', 'pool_timeout', 'connect_timeout', 'statement_timeout'],
  ...['pgbouncer', 'statement_cache_size', 'target_session_attrs'],
]

/** A name as an identifier in SQL. */
export const quoted = (name: string): string => `"${name.replaceAll('"', '""')}"`

/**
 * One URL per server for `pg`, and the settings that the given URL has for a pool. The schema becomes the search path of
 * each connection, as a startup option: so it survives `RESET ALL`, and raw statements use it too.
 *
 * @param name of the URL in messages
 * @param hasSearchPath false for a pooler, which rejects the option
 * @throws FLEET_ERR_OPTION_INVALID naming the part that is not supported or invalid
 */
export function serverUrls(
  url: string,
  name: string,
  hasSearchPath: (settings: PostgresSettings) => boolean = () => true,
): { urls: readonly string[]; settings: PostgresSettings } {
  const settings = postgresSettings(url, (problem) => {
    throw new FleetError('FLEET_ERR_OPTION_INVALID', `${name} ${problem}`)
  })
  const { schema } = settings
  const searchPath =
    schema !== undefined && hasSearchPath(settings) ? [`-c search_path=${escaped(quoted(schema))}`] : []
  const urls = hostUrls(url).map((each) => {
    const [address = '', query = ''] = each.split(/\?(.*)/s)
    const parameters = new URLSearchParams(query)
    for (const parameter of applied) parameters.delete(parameter)
    const options = [...parameters.getAll('options'), ...searchPath].join(' ')
    if (options !== '') parameters.set('options', options)
    return parameters.size > 0 ? `${address}?${parameters}` : address
  })
  return { urls, settings }
}

/** The server splits options at white space. */
const escaped = (text: string): string => text.replaceAll(/[\\\s]/g, '\\$&')

/** The same URL with a schema, unless it has one. */
export function withSchema(url: string, schema: string | undefined): string {
  const [address = '', query = ''] = url.split(/\?(.*)/s)
  const parameters = new URLSearchParams(query)
  if (schema === undefined || parameters.has('schema')) return url
  parameters.set('schema', schema)
  return `${address}?${parameters}`
}
