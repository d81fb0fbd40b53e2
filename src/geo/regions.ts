import { FleetError } from '../base/errors.ts'
import { list, number, type OptionsOf, object, resolveOptions, type Shape, text } from '../base/options.ts'
import { type ProbeOptions, Prober } from '../edge/probe.ts'
import { parseServer } from '../edge/target-url.ts'
import { isCountry } from './locator.ts'
import { distanceKm, type Place } from './place.ts'

/** @internal */
export const regionOptions = {
  /** Public origin of the region, e.g. `https://eu.example.com`. */
  url: text,
  /** ISO 3166-1 codes of the countries that this region serves, at any distance. */
  countries: list(text).default([]),
  /** Where the region is, for clients of other countries whose coordinates the database has. */
  location: object({
    /** Degrees; north is positive. */
    latitude: number(-90, 90),
    /** Degrees; east is positive. */
    longitude: number(-180, 180),
  }) as Shape<Place>,
}
/** `url` is required, and `countries`, a `location`, or both. */
export type RegionOptions = OptionsOf<typeof regionOptions> & { url: string }

export interface Region {
  readonly name: string
  readonly url: URL
  readonly countries: ReadonlySet<string>
  readonly location: Place | undefined
  /** `true` until its first probe has failed. */
  healthy: boolean
}

/** Farther than any two places on Earth, in kilometres. */
const unknownKm = 25_000

/** The regions of a service: their health, and their order for a client. */
export class Regions {
  readonly all: readonly Region[]
  readonly #prober: Prober<Region>

  /**
   * @param own name of the region of this instance, which is not probed
   * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID
   */
  constructor(regions: Readonly<Record<string, RegionOptions>>, own: string | undefined, probe: ProbeOptions) {
    this.all = Object.entries(regions).map(([name, options]) => regionOf(name, options))
    this.#prober = new Prober(probe, (region, verdict) => {
      region.healthy = verdict === 'pass'
    })
    for (const region of this.all) if (region.name !== own) this.#prober.watch(region)
  }

  /**
   * The regions, best first: healthy ones, then those that list the country, then by distance, then in the order of the
   * options.
   *
   * @param place where the client is; without it, distance does not count
   */
  rank(country: string | undefined, place: Place | undefined): readonly Region[] {
    const cost = ({ healthy, countries, location }: Region): number => {
      const isListed = country !== undefined && countries.has(country)
      const km = place && location ? distanceKm(place, location) : unknownKm
      return (healthy ? 0 : 1e9) + (isListed ? 0 : 1e6) + km
    }
    return this.all
      .map((region) => ({ region, cost: cost(region) }))
      .sort((a, b) => a.cost - b.cost)
      .map(({ region }) => region)
  }

  close(): void {
    this.#prober.close()
  }
}

function regionOf(name: string, options: RegionOptions): Region {
  const { url, countries, location } = resolveOptions(`geo.regions.${name}`, regionOptions, options)
  const region = { name, url: parseServer(url), countries: new Set(countries), location, healthy: true }
  const unknown = countries.find((country) => !isCountry(country))
  if (unknown !== undefined) {
    const detail = `\`geo.regions.${name}.countries\` has ${JSON.stringify(unknown)}; expected ISO 3166-1 codes such as DE`
    throw new FleetError('FLEET_ERR_OPTION_INVALID', detail)
  }
  if (countries.length > 0 || location) return region
  throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`geo.regions.${name}\` needs \`countries\` or a \`location\``)
}
