import { FleetError } from '../base/errors.ts'
import { list, number, object, resolveLegacy, type Shapes, text } from '../base/options.ts'
import { balancerDefaults } from '../edge/balancer/options.ts'
import { type ProbeOptions, Prober } from '../edge/balancer/probe.ts'
import { Target } from '../edge/balancer/target.ts'
import { isCountry } from './locator.ts'
import { distanceKm, type Place } from './place.ts'

/** A region has `countries`, a `location`, or both. */
export interface RegionOptions {
  /** Public origin of the region, e.g. `https://eu.example.com`. */
  url: string
  /** ISO 3166-1 codes of the countries that this region serves, at any distance. @default [] */
  countries?: string[]
  /** Where the region is, for clients of other countries whose coordinates the database has. @default unknown */
  location?: Place
}

const shapes: Shapes = {
  url: text,
  countries: list(text),
  location: object({ latitude: number(-90, 90), longitude: number(-180, 180) }),
}

export interface Region {
  readonly name: string
  readonly url: string
  /** Host and port, as in a `Host` header. */
  readonly host: string
  readonly countries: ReadonlySet<string>
  readonly healthy: boolean
}

interface ProbedRegion extends Region {
  readonly target: Target
  readonly location: Place | undefined
  healthy: boolean
}

/** Farther than any two places on Earth, in kilometres. */
const unknownKm = 25_000

/** The regions of a service: their health, and their order for a client. */
export class Regions {
  readonly #regions: readonly ProbedRegion[]
  readonly #prober: Prober

  /**
   * @param own name of the region of this instance, which is not probed
   * @throws FLEET_ERR_OPTION_INVALID, FLEET_ERR_TARGET_INVALID
   */
  constructor(regions: Readonly<Record<string, RegionOptions>>, own: string | undefined, probe: ProbeOptions) {
    this.#regions = Object.entries(regions).map(([name, options]) => {
      const { url, countries = [], location } = resolveLegacy<RegionOptions>(`geo.regions.${name}`, shapes, options)
      const target = new Target({ url }, balancerDefaults.connections)
      validate(name, countries, location)
      const { origin, host } = target.url
      // A region counts as healthy until its first probe has failed.
      return { name, url: origin, host, target, countries: new Set(countries), location, healthy: true }
    })
    this.#prober = new Prober(probe, (target, verdict) => {
      const region = this.#regions.find((probed) => probed.target === target)
      if (region) region.healthy = verdict === 'pass'
    })
    for (const { name, target } of this.#regions) if (name !== own) this.#prober.watch(target)
  }

  get all(): readonly Region[] {
    return this.#regions
  }

  /**
   * The regions, best first: healthy ones, then those that list the country, then by distance, then in the order of the
   * options.
   *
   * @param place where the client is; without it, distance does not count
   */
  rank(country: string | undefined, place: Place | undefined): readonly Region[] {
    const cost = ({ healthy, countries, location }: ProbedRegion): number => {
      const isListed = country !== undefined && countries.has(country)
      const km = place && location ? distanceKm(place, location) : unknownKm
      return (healthy ? 0 : 1e9) + (isListed ? 0 : 1e6) + km
    }
    return this.#regions
      .map((region) => ({ region, cost: cost(region) }))
      .sort((a, b) => a.cost - b.cost)
      .map(({ region }) => region)
  }

  close(): void {
    this.#prober.close()
  }
}

function validate(name: string, countries: readonly string[], location: Place | undefined): void {
  const unknown = countries.find((country) => !isCountry(country))
  if (unknown !== undefined) {
    const detail = `\`geo.regions.${name}.countries\` has ${JSON.stringify(unknown)}; expected ISO 3166-1 codes such as DE`
    throw new FleetError('FLEET_ERR_OPTION_INVALID', detail)
  }
  if (countries.length > 0 || location) return
  throw new FleetError('FLEET_ERR_OPTION_INVALID', `\`geo.regions.${name}\` needs \`countries\` or a \`location\``)
}
