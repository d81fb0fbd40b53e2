import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { canonicalPath } from '../../../src/edge/http/paths.ts'
import { parseRoutes, type Route, Router } from '../../../src/edge/http/routes.ts'

const reject = (problem: string): never => {
  throw new Error(problem)
}
const pools = ['default', 'v2', 'v3', 'heavy', 'shop', 'shop-api', 'static']
const routerOf = (routes: string | Route[]): Router<string> =>
  new Router(
    typeof routes === 'string' ? parseRoutes(routes, reject) : routes,
    (name) => pools.find((pool) => pool === name),
    reject,
  )

/** The pool of `GET target`. */
const poolOf = (router: Router<string>, target: string, host = '', headers = {}): string =>
  router.find(canonicalPath(target) ?? '/', host, headers) ?? 'default'

describe('routes', () => {
  it('compare whole segments of the path; the longest wins', () => {
    const router = routerOf('/api/v2=v2, /api=shop\n/api/v2/heavy/=heavy /static=static')
    for (const [target, pool] of Object.entries({
      '/api/v2': 'v2',
      '/api/v2/': 'v2',
      '/api/v2?x=/api/v2/heavy': 'v2',
      '/api/v2/users/1': 'v2',
      '/api/v2/heavy': 'heavy',
      '/api/v2/heavy/x': 'heavy',
      '/api/v2/heavyx': 'v2',
      '/api/v20': 'shop',
      '/api/v': 'shop',
      '/api': 'shop',
      '/apis': 'default',
      '/': 'default',
      '/x/api/v2': 'default',
      '/static/a.css': 'static',
    })) {
      assert.equal(poolOf(router, target), pool, target)
    }
  })

  it('compare the path as the application reads it', () => {
    const router = routerOf('/api/v2=v2')
    for (const target of [
      '/%61pi/v2',
      '//api/v2',
      '/api//v2/x',
      '/API/V2',
      '/api/v2;a=b/c',
      '/api%2fv2',
      '/api/./v2',
    ]) {
      assert.equal(poolOf(router, target), 'v2', target)
    }
    assert.equal(poolOf(routerOf('/API//v2/=v2'), '/api/v2/x'), 'v2')
    assert.equal(poolOf(routerOf('/größe=v2'), '/gr%C3%B6%C3%9Fe/1'), 'v2')
  })

  it('prefer headers in the listed order, then the host, then the path', () => {
    const router = routerOf(
      '/api/v2=v2 //shop.example.com=shop //shop.example.com/api=shop-api x-version:3=v3 X-Version:2=v2 x-version:3=heavy',
    )
    assert.equal(poolOf(router, '/api/v2', 'other.example.com'), 'v2')
    assert.equal(poolOf(router, '/api/v2', 'shop.example.com'), 'shop-api')
    assert.equal(poolOf(router, '/', 'SHOP.example.COM:8443'), 'shop')
    assert.equal(poolOf(router, '/', 'shop.example.com.'), 'shop')
    assert.equal(poolOf(router, '/', 'shop.example.com.:80'), 'shop')
    assert.equal(poolOf(router, '/', 'xshop.example.com'), 'default')
    assert.equal(poolOf(router, '/api/v2', 'shop.example.com', { 'x-version': '3' }), 'v3')
    assert.equal(poolOf(router, '/x', '', { 'x-version': '2' }), 'v2')
    assert.equal(poolOf(router, '/x', '', { 'x-version': '2, 3' }), 'default')
    assert.equal(poolOf(routerOf('//[::1]=v2'), '/', '[::1]:80'), 'v2')
  })

  it('may combine conditions in the form of objects', () => {
    const router = routerOf([
      { path: '/api', headers: { 'x-version': '2', 'X-Beta': 'yes' }, pool: 'v2' },
      { path: '/api', host: 'shop', headers: { 'x-version': '2' }, pool: 'shop' },
    ])
    const headers = { 'x-version': '2', 'x-beta': 'yes' }
    assert.equal(poolOf(router, '/api/1', 'shop', headers), 'v2')
    assert.equal(poolOf(router, '/api/1', 'shop', { 'x-version': '2' }), 'shop')
    assert.equal(poolOf(router, '/api/1', 'x', { 'x-version': '2' }), 'default')
    assert.equal(poolOf(router, '/x', 'shop', headers), 'default')
  })

  it('may be the root, contain = and repeat', () => {
    assert.equal(poolOf(routerOf('/=v2 /=v2 /a=b=v3'), '/anything'), 'v2')
    assert.equal(poolOf(routerOf('/=v2 /a=b=v3'), '/a=b/c'), 'v3')
    assert.equal(poolOf(routerOf('x-a:b=c:d=v3'), '/', '', { 'x-a': 'b=c:d' }), 'v3')
  })

  it('fall back from the paths of a header or a host to the next kind of route', () => {
    const router = routerOf([
      { path: '/a', headers: { 'x-v': '2' }, pool: 'v2' },
      { path: '/a', host: 'shop', pool: 'shop' },
      { path: '/', pool: 'static' },
      { path: '/b', pool: 'v3' },
    ])
    const headers = { 'x-v': '2' }
    assert.equal(poolOf(router, '/a/1', 'shop', headers), 'v2')
    assert.equal(poolOf(router, '/a/1', 'shop'), 'shop')
    assert.equal(poolOf(router, '/b/1', 'shop', headers), 'v3')
    assert.equal(poolOf(router, '/c', 'shop', headers), 'static')
  })

  it('of a host win over longer ones of any host, and the longest of a host over its root', () => {
    const router = routerOf('/a/b/c=v2 //shop=shop //shop/a=shop-api //shop/a/b/x=heavy')
    assert.equal(poolOf(router, '/a/b/c', 'shop'), 'shop-api')
    assert.equal(poolOf(router, '/b', 'shop'), 'shop')
    assert.equal(poolOf(router, '/a/b/x', 'shop'), 'heavy')
    assert.equal(poolOf(router, '/a/b/c', 'other'), 'v2')
    assert.equal(poolOf(router, '/a/b/c', 'shop'), 'shop-api')
  })

  it('with headers compare every field, and a repeated field has no one value', () => {
    const router = routerOf([{ headers: { a: '1', b: '2' }, pool: 'v2' }])
    for (const [headers, pool] of [
      [{ a: '1', b: '2' }, 'v2'],
      [{ a: '1' }, 'default'],
      [{ b: '2' }, 'default'],
      [{ a: '1', b: '22' }, 'default'],
      [{ a: ['1'], b: '2' }, 'default'],
    ] as const) {
      assert.equal(poolOf(router, '/', '', headers), pool, JSON.stringify(headers))
    }
  })

  it('are rejected with the route and the reason', () => {
    for (const [text, reason] of Object.entries({
      'api=v2': /"api=v2" is not MATCH=POOL/,
      '/api': /"\/api" is not MATCH=POOL/,
      '=v2': /"=v2" is not MATCH=POOL/,
      '/api=': /"\/api=" .*lower-case/,
      '/api=V2': /lower-case letters/,
      '/api=v9': /"\/api=v9" names a pool that does not exist/,
      '/a?b=v2': /absolute path without query/,
      '/%zz=v2': /absolute path without query/,
      '/..=v2': /absolute path without query/,
      '//shop:80=v2': /without port/,
      '//*.shop=v2': /without port/,
      '//=v2': /without port/,
      'x y:z=v2': /"x" is not MATCH=POOL/,
      ':z=v2': /name with a value/,
      'x-a:=v2': /name with a value/,
      '/a=v2 /A/=v3': /contradicts another route/,
    })) {
      assert.throws(() => routerOf(text), reason, text)
    }
    assert.throws(() => routerOf([{ pool: 'v2' }]), /needs a `path`/)
    assert.throws(() => routerOf([{ headers: {}, pool: 'v2' }]), /needs a `path`/)
  })
})
