import { PrismaPg } from '@prisma/adapter-pg'
import { PrismaClient } from '../src/app/generated/prisma/client.ts'
import { hashPassword } from '../src/app/password.ts'
import { products, testUser } from '../src/app/samples.ts'
import { FleetError, readEnv } from '../src/index.ts'

/**
 * Adds missing development data and changes nothing else: `fleet migrate --seed`, or `prisma db seed`. It can be
 * repeated, and run by several processes at once.
 */
const { production, DATABASE_URL } = readEnv()
if (production)
  throw new FleetError('FLEET_ERR_SEED_IN_PRODUCTION', 'unset NODE_ENV=production to seed a development database')
if (DATABASE_URL === undefined) throw new FleetError('FLEET_ERR_ENV_INVALID', 'DATABASE_URL must be set to seed')

const schema = URL.parse(DATABASE_URL)?.searchParams.get('schema') ?? undefined
const prisma = new PrismaClient({ adapter: new PrismaPg({ connectionString: DATABASE_URL, max: 1 }, { schema }) })
try {
  const { password, ...user } = testUser
  const known = await prisma.user.findUnique({ where: { email: user.email } })
  // ON CONFLICT DO NOTHING: another process may have inserted it since the query.
  if (!known)
    await prisma.user.createMany({
      data: [{ ...user, passwordHash: await hashPassword(password) }],
      skipDuplicates: true,
    })
  await prisma.product.createMany({ data: [...products], skipDuplicates: true })
} finally {
  await prisma.$disconnect()
}
