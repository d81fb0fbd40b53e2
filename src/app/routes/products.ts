import type { FastifyPluginAsync } from 'fastify'
import { FleetError } from '../../index.ts'
import { signedIn, userIdOf } from '../access.ts'
import type { NewProduct, Product } from '../data/index.ts'
import * as schemas from '../schemas.ts'

interface ById {
  Params: { id: string }
}

const freshMs = 60_000
const tags = ['products']
/** Public: these routes do not load a session, so they work without Redis. */
const open = { config: { session: false } }

const products: FastifyPluginAsync = async (app) => {
  const { cache, data } = app
  const key = (id: string): string => `product:${id.toLowerCase()}`
  const params = schemas.object({ id: schemas.uuid })
  const one = (status: number): object => schemas.responses(status, schemas.product)
  /** Invalidates the product and all lists, on every instance. */
  const forget = (id?: string): Promise<unknown> =>
    Promise.all([id === undefined ? undefined : cache.delete(key(id)), cache.deleteByTag('products')])

  app.get<{ Querystring: { after?: string; limit?: string } }>(
    '/',
    {
      ...open,
      schema: {
        querystring: schemas.object({ after: schemas.uuid, limit: schemas.digits(3) }, ['after', 'limit']),
        response: schemas.responses(200, schemas.products),
      },
    },
    async ({ query }): Promise<{ products: readonly Product[]; next?: string }> => {
      const { after } = query
      const limit = Number(query.limit ?? 50)
      if (limit < 1 || limit > 100) throw new FleetError('FLEET_ERR_REQUEST_INVALID', '`limit` must be from 1 to 100')
      const page = await cache.getOrSet(
        `products:${after?.toLowerCase() ?? ''}:${limit}`,
        freshMs,
        () => data.products.list({ after, limit }),
        { tags },
      )
      return { products: page, next: page.length === limit ? page.at(-1)?.id : undefined }
    },
  )

  app.get<ById>(
    '/:id',
    { ...open, schema: { params, response: one(200) } },
    async ({ params: { id } }): Promise<Product> => {
      const product = await cache.getOrSet(key(id), freshMs, () => data.products.get(id))
      if (!product) throw new FleetError('FLEET_ERR_RECORD_UNKNOWN')
      return product
    },
  )

  app.post<{ Body: NewProduct }>(
    '/',
    { onRequest: signedIn, schema: { body: schemas.newProduct, response: one(201) } },
    async (request, reply): Promise<Product> => {
      const product = await data.products.create(request.body, userIdOf(request))
      await forget()
      reply.code(201).header('location', `${request.routeOptions.url?.replace(/\/$/, '')}/${product.id}`)
      return product
    },
  )

  app.patch<ById & { Body: Partial<NewProduct> }>(
    '/:id',
    { onRequest: signedIn, schema: { params, body: schemas.changedProduct, response: one(200) } },
    async ({ params: { id }, body }): Promise<Product> => {
      const product = await data.products.update(id, body)
      await forget(id)
      return product
    },
  )

  app.delete<ById>(
    '/:id',
    { onRequest: signedIn, schema: { params, response: { 204: {} } } },
    async ({ params: { id } }, reply) => {
      await data.products.delete(id)
      await forget(id)
      return reply.code(204).send()
    },
  )
}
export default products
