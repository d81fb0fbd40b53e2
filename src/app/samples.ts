import type { NewProduct } from './data/data.ts'

/** The password is public: for development only. */
export const testUser = { email: 'test@example.com', name: 'Test User', password: 'password' } as const

/** Sample products; prices in cents. */
export const products: readonly NewProduct[] = [
  { sku: 'TEA-01', name: 'Assam, 250 g', priceCents: 890, stock: 120 },
  { sku: 'TEA-02', name: 'Sencha, 100 g', priceCents: 1250, stock: 40 },
  { sku: 'CUP-01', name: 'Cup, stoneware', priceCents: 1490, stock: 75 },
  { sku: 'POT-01', name: 'Teapot, 1 l', priceCents: 3990, stock: 12 },
]
