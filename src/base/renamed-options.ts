import { FleetError } from './errors.ts'

/**
 * Rejects options under their names of an earlier version.
 *
 * @param name of the plugin or call, for the message
 * @param renamed former name → new name, with its value where that has changed: `onOutage: 'allow'`
 * @throws FLEET_ERR_OPTION_UNKNOWN naming the new option
 */
export function rejectRenamed(
  name: string,
  options: object | undefined,
  renamed: Readonly<Record<string, string>>,
): void {
  for (const [former, now] of Object.entries(renamed))
    if (options && Object.hasOwn(options, former))
      throw new FleetError('FLEET_ERR_OPTION_UNKNOWN', `\`${name}.${former}\` is now \`${now}\`; see docs/migration.md`)
}
