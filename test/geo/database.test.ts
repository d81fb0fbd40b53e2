import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { GeoDatabase } from '../../src/geo/database.ts'
import { damagedFiles } from './damaged-files.ts'
import { writeMmdb } from './mmdb-writer.ts'

const country = (code: string) => ({ country: { iso_code: code } })
const long = 'x'.repeat(5000)
const networks = {
  '1.2.3.0/24': country('DE'),
  '1.2.4.0/22': country('FR'),
  '9.9.9.9/32': { text: long, list: [1, 70_000, -1.5, true], empty: {}, zero: 0 },
  '2001:db8::/32': country('JP'),
}

describe('a MaxMind database', () => {
  for (const size of [24, 28, 32] as const) {
    it(`is read with records of ${size} bits`, () => {
      const database = new GeoDatabase(writeMmdb(networks, size))
      assert.deepEqual(database.find('1.2.3.4'), country('DE'))
      assert.deepEqual(database.find('::ffff:1.2.3.4'), country('DE'))
      for (const address of ['1.2.4.0', '1.2.7.255']) assert.deepEqual(database.find(address), country('FR'))
      assert.deepEqual(database.find('9.9.9.9'), networks['9.9.9.9/32'])
      assert.deepEqual(database.find('2001:db8:1:2:3:4:5:6'), country('JP'))
      assert.deepEqual(database.find('2001:db8::1'), country('JP'))
      for (const address of ['1.2.2.255', '1.2.8.0', '9.9.9.8', '2001:db9::', '::1', 'nonsense', '']) {
        assert.equal(database.find(address), undefined, address)
      }
      assert.equal(database.find('1.2.3.4'), database.find('1.2.3.200'))
    })
  }

  it('keeps at most 10,000 decoded records', () => {
    const network = (i: number): string => `${i >> 6}.${(i & 63) << 2}.0.0`
    const all = Array.from({ length: 10_001 }, (_, i) => i)
    const database = new GeoDatabase(writeMmdb(Object.fromEntries(all.map((i) => [`${network(i)}/14`, [i]]))))
    const found = all.map((i) => database.find(network(i)))
    assert.equal(database.find(network(10_000)), found[10_000])
    assert.notEqual(database.find(network(0)), found[0])
    assert.deepEqual(database.find(network(0)), found[0])
  })

  it('is rejected when it is another kind of file or damaged', () => {
    const file = writeMmdb(networks)
    const marker = file.lastIndexOf(Buffer.from('MaxMind.com'))
    for (const broken of [Buffer.alloc(0), Buffer.from('hello'), file.subarray(0, marker + 20), file.subarray(-150)]) {
      assert.throws(() => new GeoDatabase(broken), { code: 'FLEET_ERR_GEO_DATABASE' })
    }
  })

  it('is rejected at once when its metadata expands without limit', () => {
    const { metadataBomb, metadataArrays } = damagedFiles
    assert.ok(metadataBomb.length < 300)
    for (const file of [metadataBomb, metadataArrays]) {
      assert.throws(() => new GeoDatabase(file), { code: 'FLEET_ERR_GEO_DATABASE' })
    }
  })

  it('has no record where the record expands without limit', () => {
    const { recordBomb, recordArrays, recordCycle } = damagedFiles
    for (const file of [recordBomb, recordArrays, recordCycle]) {
      const database = new GeoDatabase(file)
      assert.equal(database.find('1.2.3.4'), undefined)
      assert.deepEqual(database.find('2001:db8::1'), country('JP'))
    }
  })

  it('that is damaged inside still serves lookups', () => {
    const file = writeMmdb(networks)
    for (let seed = 1; seed < 300; seed++) {
      const broken = Buffer.from(file)
      for (let i = 0; i < 20; i++)
        broken[(seed * 7919 + i * 104_729) % (file.length - 300)] = (seed * 31 + i * 17) & 255
      const database = new GeoDatabase(broken)
      for (const address of ['1.2.3.4', '9.9.9.9', '2001:db8::1']) database.find(address)
    }
  })

  it('is rejected when it is larger than 1 GiB', async (t) => {
    const folder = mkdtempSync(join(tmpdir(), 'fleet-geo-'))
    t.after(() => rmSync(folder, { recursive: true }))
    const path = join(folder, 'sparse.mmdb')
    writeFileSync(path, '')
    truncateSync(path, 2 ** 30 + 1)
    await assert.rejects(GeoDatabase.open(path), { code: 'FLEET_ERR_GEO_DATABASE' })
  })

  it('needs mmdb-lib, and names the command that installs it', () => {
    const program = `
      import { registerHooks } from 'node:module'
      registerHooks({
        resolve(name, context, next) {
          if (name === 'mmdb-lib') throw Object.assign(new Error('not found'), { code: 'ERR_MODULE_NOT_FOUND' })
          return next(name, context)
        },
      })
      const { default: Fastify } = await import('fastify')
      const { geo } = await import('./src/geo/index.ts')
      const error = await Fastify().register(geo, { database: 'any.mmdb' }).then(() => undefined, (error) => error)
      console.log(error?.code, error?.message)`
    const cwd = fileURLToPath(new URL('../..', import.meta.url))
    const args = ['--input-type=module', '--eval', program]
    const output = execFileSync(process.execPath, args, { cwd, encoding: 'utf8' })
    assert.match(output, /^FLEET_ERR_PACKAGE_MISSING .*npm install mmdb-lib/)
  })
})
