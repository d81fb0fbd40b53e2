import { Signer as Hmac } from '@fastify/cookie'

/** What signs a session's id for its cookie; that of `@fastify/cookie` will do. */
export interface Signer {
  sign(value: string): string
  unsign(signed: string): Unsigned
}

export interface Unsigned {
  valid: boolean
  /** Signed with an older secret. */
  renew: boolean
  value: string | null
}

const remembered = 10_000

/** HMAC as in `@fastify/cookie`, with a memory: a signature that was verified once need not be verified again. */
export class CookieSigner implements Signer {
  readonly #secrets: readonly string[]
  readonly #algorithm: string
  /** By the end of the signature, because hashing all of a cookie costs more. */
  readonly #known = new Map<string, { readonly signed: string; readonly unsigned: Unsigned }>()
  /** The list as it was when {@link #hmac} was made. */
  #used: string[] = []
  #hmac: Signer

  /** @param secrets the first one signs, all verify. The list may be changed at any time, and counts as it is then. */
  constructor(secrets: readonly string[], algorithm: string) {
    this.#secrets = secrets
    this.#algorithm = algorithm
    this.#hmac = this.#renewed()
  }

  sign(value: string): string {
    return this.#current().sign(value)
  }

  unsign(signed: string): Unsigned {
    const hmac = this.#current()
    const key = signed.slice(-24)
    const known = this.#known.get(key)
    if (known?.signed === signed) return known.unsigned
    const unsigned = hmac.unsign(signed)
    if (unsigned.valid) {
      for (const oldest of this.#known.keys()) {
        if (this.#known.size < remembered) break
        this.#known.delete(oldest)
      }
      this.#known.set(key, { signed, unsigned })
    }
    return unsigned
  }

  #current(): Signer {
    const secrets = this.#secrets
    const used = this.#used
    let isSame = secrets.length === used.length
    for (let i = 0; isSame && i < used.length; i++) isSame = secrets[i] === used[i]
    if (!isSame) this.#hmac = this.#renewed()
    return this.#hmac
  }

  #renewed(): Signer {
    this.#used = [...this.#secrets]
    this.#known.clear()
    return new Hmac(this.#used, this.#algorithm) as Signer
  }
}
