import { FleetError } from './errors.ts'

/**
 * Rejects the former names of renamed options.
 *
 * @param plugin name used in the message, e.g. `session`
 * @param renamed what to use instead, by former name: completes the sentence "use …"
 * @throws FLEET_ERR_OPTION_UNKNOWN
 */
export function rejectRenamed(plugin: string, given: object, renamed: Readonly<Record<string, string>>): void {
  for (const [name, value] of Object.entries(given)) {
    if (value === undefined || !Object.hasOwn(renamed, name)) continue
    throw new FleetError('FLEET_ERR_OPTION_UNKNOWN', `\`${plugin}\` has no option \`${name}\`; use ${renamed[name]}`)
  }
}
