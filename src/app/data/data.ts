export interface User {
  readonly id: string
  readonly email: string
  readonly name: string
}

/** Internal to the login: never part of a response. */
export interface Account extends User {
  readonly passwordHash: string
}

export interface NewProduct {
  readonly sku: string
  readonly name: string
  readonly priceCents: number
  readonly stock: number
}

export interface Product extends NewProduct {
  readonly id: string
  /** ISO 8601. */
  readonly createdAt: string
  readonly updatedAt: string
}

export interface Page {
  /** The last product of the previous page. */
  readonly after?: string
  readonly limit: number
}

export interface Summary {
  readonly products: number
  readonly stock: number
  readonly valueCents: number
}

/**
 * The store of the application's records.
 *
 * @throws FLEET_ERR_RECORD_UNKNOWN, FLEET_ERR_RECORD_EXISTS, FLEET_ERR_DATABASE_UNAVAILABLE from every method
 */
export interface Data {
  readonly users: {
    /** @param email in lower case */
    account(email: string): Promise<Account | null>
    get(id: string): Promise<User | null>
  }
  readonly products: {
    /** By creation time. */
    list(page: Page): Promise<readonly Product[]>
    get(id: string): Promise<Product | null>
    create(product: NewProduct, userId: string): Promise<Product>
    update(id: string, changes: Partial<NewProduct>): Promise<Product>
    delete(id: string): Promise<void>
    summary(): Promise<Summary>
  }
}
