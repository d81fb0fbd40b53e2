import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import Fastify from 'fastify'

/** Fails with the first difference from the published schema. Fastify’s validator is Ajv. */
export async function assertSchema(text: string): Promise<void> {
  const schema = JSON.parse(readFileSync('docs/reference/fleet-test.schema.json', 'utf8'))
  const options = { removeAdditional: false, coerceTypes: false, useDefaults: false } as const
  const app = Fastify({ ajv: { customOptions: options } })
  app.post('/', { schema: { body: schema } }, async () => 'valid')
  const { body } = await app.inject({ method: 'POST', url: '/', body: JSON.parse(text) })
  assert.equal(body, 'valid', text)
}
