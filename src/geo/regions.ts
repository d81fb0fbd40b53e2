import { FleetError } from '../base/errors.ts'
import { balancerDefaults } from '../edge/balancer/options.ts'
import { type ProbeOptions, Prober } from '../edge/balancer/probe.ts'
import { Target } from '../edge/balancer/target.ts'
import { distanceKm, type Place, placeOf } from './countries.ts'

export interface RegionOptions {
  /** Public origin of the region, e.g. `https://eu.example.com`. */
  url: string
  /** Codes of the countries (ISO 3166-1) that this region serves, however far they are. @default [] */
  countries?: string[]
  /** Where the region is; or the code of the country it is in. @default its first country */
  location?: Place | string
}

export interface Region {
  readonly name: string
  readonly url: string
  /** Host and port, as a `Host` header has it. */
  readonly host: string
  readonly healthy: boolean
}

interface Known extends Region {
  readonly target: Target
  readonly countries: ReadonlySet<string>
  readonly place: Place
  healthy: boolean
}

/** The regions of a service: which are healthy, and which is the best for whom. */
export class Regions {
  readonly #known: readonly Known[]
  readonly #prober: Prober

  /**
   * @param own name of the region this instance is in, which is healthy as long as this code runs
   * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID
   */
  constructor(regions: Readonly<Record<string, RegionOptions>>, own: string | undefined, probe: ProbeOptions) {
    this.#known = Object.entries(regions).map(([name, options]) => {
      const target = new Target({ url: options.url }, balancerDefaults.connections)
      const { origin, host } = target.url
      const countries = new Set(options.countries)
      // Until the first probe has answered, nothing speaks against a region.
      return { name, url: origin, host, target, countries, place: placeOfRegion(name, options), healthy: true }
    })
    this.#prober = new Prober(probe, (target, verdict) => {
      const region = this.#known.find((known) => known.target === target)
      if (region) region.healthy = verdict === 'pass'
    })
    for (const { name, target } of this.#known) if (name !== own) this.#prober.watch(target)
  }

  get all(): readonly Region[] {
    return this.#known
  }

  /**
   * The regions, best first: healthy ones before others, then the one that names the country, then by distance.
   *
   * @param from where the client is; undefined when nobody knows, and then the order of the options counts
   */
  rank(country: string | undefined, from: Place | undefined): readonly Region[] {
    const place = from ?? (country === undefined ? undefined : placeOf(country))
    const cost = (region: Known): number => {
      const named = country !== undefined && region.countries.has(country)
      return (region.healthy ? 0 : 1e9) + (named ? 0 : 1e6) + (place ? distanceKm(place, region.place) : 0)
    }
    return this.#known
      .map((region) => ({ region, cost: cost(region) }))
      .sort((a, b) => a.cost - b.cost)
      .map(({ region }) => region)
  }

  close(): void {
    this.#prober.close()
  }
}

function placeOfRegion(name: string, { location, countries = [] }: RegionOptions): Place {
  const unknown = countries.find((country) => !placeOf(country))
  const place = typeof location === 'object' ? location : placeOf(location ?? countries[0] ?? '')
  if (place && unknown === undefined) return place
  throw new FleetError(
    'FLEET_ERR_OPTION_INVALID',
    unknown === undefined
      ? `\`geo.regions.${name}\` needs a \`location\`, or \`countries\`: codes such as DE`
      : `\`geo.regions.${name}.countries\` has ${JSON.stringify(unknown)}, which is no code of ISO 3166-1`,
  )
}
