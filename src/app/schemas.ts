/** An object with these properties only. */
export const object = (properties: Record<string, object>, optional: readonly string[] = []): object => ({
  type: 'object',
  properties,
  required: Object.keys(properties).filter((name) => !optional.includes(name)),
  additionalProperties: false,
})

export const text: object = { type: 'string' }
export const uuid: object = { type: 'string', format: 'uuid' }
/** An integer in a query, where all values are text. */
export const digits = (most: number): object => ({ type: 'string', pattern: `^[0-9]{1,${most}}$` })

export const user: object = object({ id: uuid, email: text, name: text })
const credentials = {
  email: { type: 'string', format: 'email', maxLength: 254 },
  password: { type: 'string', minLength: 1, maxLength: 1024 },
}
export const login: object = object(credentials)
const pair = { accessToken: text, refreshToken: text, tokenType: text, expiresIn: { type: 'integer' } }
export const tokens: object = object(pair)
export const loggedIn: object = object({ user, ...pair })

const cents = { type: 'integer', minimum: 0, maximum: 2_147_483_647 }
/** PostgreSQL's text type accepts every character except NUL. */
const line = (maxLength: number): object => ({ type: 'string', minLength: 1, maxLength, pattern: '^[^\\u0000]*$' })
const fields = { sku: line(64), name: line(200), priceCents: cents, stock: cents }
export const newProduct: object = object({ ...fields, stock: { ...cents, default: 0 } }, ['stock'])
export const changedProduct: object = { ...object(fields, Object.keys(fields)), minProperties: 1 }
export const product: object = object({ id: uuid, ...fields, createdAt: text, updatedAt: text })
export const products: object = object({ products: { type: 'array', items: product }, next: text }, ['next'])
export const summary: object = object({
  products: { type: 'integer' },
  stock: { type: 'number' },
  valueCents: { type: 'number' },
})

const error: object = object({ statusCode: { type: 'integer' }, code: text, message: text, requestId: text }, [
  'requestId',
])
/** The shape of every error response. */
export const failures: Record<string, object> = { '4xx': error, '5xx': error }
export const responses = (status: number, success: object): Record<string, object> => ({
  [status]: success,
  ...failures,
})
