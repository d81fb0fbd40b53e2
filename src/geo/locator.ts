import type { IncomingHttpHeaders } from 'node:http'
import { type Networks, networks } from '../base/networks.ts'
import type { GeoDatabase } from './database.ts'
import type { Place } from './place.ts'

export interface Location {
  /** ISO 3166-1 code; undefined when it is unknown. */
  readonly country?: string
  /** Coordinates, when the database has them. */
  readonly place?: Place
  /** Where the country comes from: a header of a trusted edge, or the database. */
  readonly source: 'edge' | 'database' | 'none'
}

const nowhere: Location = { source: 'none' }

/** Edges send XX (Cloudflare) or ZZ (App Engine) for an unknown country. */
export const isCountry = (code: string): boolean => /^[A-Z]{2}$/.test(code) && code !== 'XX' && code !== 'ZZ'

/** Finds the country and the coordinates of a request. */
export class Locator {
  readonly #edges: Networks
  readonly #headers: readonly string[]
  readonly #database: GeoDatabase | undefined
  /** By record, which the database keeps in memory while it is in use. */
  readonly #locations = new WeakMap<object, Location>()

  /** @throws FLEET_ERR_OPTION_INVALID */
  constructor(options: { edges: readonly string[]; headers: readonly string[] }, database: GeoDatabase | undefined) {
    this.#edges = networks(options.edges, 'geo.edges')
    this.#headers = options.headers.map((header) => header.toLowerCase())
    this.#database = database
  }

  /**
   * @param client the nearest address that is not a trusted proxy's: that of the edge or of the client. With `edges`,
   * these addresses are skipped as well
   */
  locate(client: (edges?: (address: string) => boolean) => string, headers: IncomingHttpHeaders): Location {
    const nearest = client()
    if (!this.#edges.includes(nearest)) return this.#search(nearest)
    const country = this.#country(headers)
    if (country !== undefined) return { country, source: 'edge' }
    return this.#search(client((address) => this.#edges.includes(address)))
  }

  #country(headers: IncomingHttpHeaders): string | undefined {
    for (const name of this.#headers) {
      const code = String(headers[name] ?? '').toUpperCase()
      if (isCountry(code)) return code
    }
    return undefined
  }

  #search(address: string): Location {
    const record = this.#database?.find(address)
    if (typeof record !== 'object' || record === null) return nowhere
    let location = this.#locations.get(record)
    if (!location) {
      location = toLocation(record)
      this.#locations.set(record, location)
    }
    return location
  }
}

interface DatabaseRecord {
  country?: { iso_code?: unknown } | string
  registered_country?: { iso_code?: unknown }
  country_code?: unknown
  location?: { latitude?: unknown; longitude?: unknown }
}

/** GeoIP2 and GeoLite2 nest the code; some others have it at the top level. */
function toLocation({ country, registered_country, country_code, location }: DatabaseRecord): Location {
  const nested = typeof country === 'object' ? country.iso_code : (country ?? country_code)
  const code = nested ?? registered_country?.iso_code
  const { latitude, longitude } = location ?? {}
  const place = typeof latitude === 'number' && typeof longitude === 'number' ? { latitude, longitude } : undefined
  if (typeof code !== 'string' || !isCountry(code)) return place ? { place, source: 'database' } : nowhere
  return { country: code, ...(place && { place }), source: 'database' }
}
