import type { IncomingHttpHeaders } from 'node:http'
import { type Networks, networks } from '../base/networks.ts'
import { type Place, placeOf } from './countries.ts'
import type { MaxmindReader } from './maxmind.ts'

export interface Location {
  /** ISO 3166-1 code; undefined when nobody knows. */
  readonly country?: string
  /** Where exactly, when the database tells. */
  readonly place?: Place
  /** Who says so. */
  readonly source: 'edge' | 'database' | 'none'
}

/** Records of a database that are kept decoded. A country database has a few hundred. */
const maxKept = 10_000
const nowhere: Location = { source: 'none' }

/** Tells where a request comes from. */
export class Locator {
  readonly #edges: Networks
  readonly #headers: readonly string[]
  readonly #database: MaxmindReader | undefined
  readonly #kept = new Map<number, Location>()

  /** @throws FLEET_ERR_OPTION_INVALID */
  constructor(options: { edges: readonly string[]; headers: readonly string[] }, database: MaxmindReader | undefined) {
    this.#edges = networks(options.edges, 'geo.edges')
    this.#headers = options.headers.map((header) => header.toLowerCase())
    this.#database = database
  }

  /** @param client the address behind our proxies, which is the edge or the client itself; with edges, what is behind those too */
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
      // Edges write XX or T1 (Tor) for what is no country.
      if (placeOf(code)) return code
    }
    return undefined
  }

  #search(address: string): Location {
    const record = this.#database?.find(address)
    if (record === undefined) return nowhere
    let location = this.#kept.get(record)
    if (!location) {
      location = toLocation(this.#database?.get(record))
      if (this.#kept.size >= maxKept) this.#kept.clear()
      this.#kept.set(record, location)
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

/** GeoIP2 and GeoLite2 nest the code; some others have it at the top. */
function toLocation(value: unknown): Location {
  if (typeof value !== 'object' || value === null) return nowhere
  const { country, registered_country, country_code, location } = value as DatabaseRecord
  const nested = typeof country === 'object' ? country.iso_code : (country ?? country_code)
  const code = nested ?? registered_country?.iso_code
  const { latitude, longitude } = location ?? {}
  const place = typeof latitude === 'number' && typeof longitude === 'number' ? { latitude, longitude } : undefined
  if (typeof code !== 'string' || !placeOf(code)) return place ? { place, source: 'database' } : nowhere
  return { country: code, ...(place && { place }), source: 'database' }
}
