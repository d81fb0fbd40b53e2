import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startUpstream } from '../helpers/upstream.ts'
import { type Ask, type FrontResponse, startFront } from './front.ts'

const app = await startUpstream('app')
const front = await startFront({ FLEET_TARGETS: app.target, FLEET_BODY_MAX: '1k' })
const browser = 'text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8'

const format = ({ headers, body }: FrontResponse): string => {
  const type = String(headers['content-type'])
  if (/^text\/html/.test(type) && body.startsWith('<!doctype html>')) return 'html'
  return /^application\/json/.test(type) && JSON.parse(body).statusCode ? 'json' : `${type} ${body}`
}

test('error bodies are HTML only for clients that prefer it to JSON', async () => {
  for (const [accept, wanted] of [
    [undefined, 'json'],
    ['', 'json'],
    [browser, 'html'],
    ['text/html', 'html'],
    ['TEXT/HTML', 'html'],
    ['text/html; charset=utf-8', 'html'],
    ['text/html;level=1;q=0.9, */*;q=0.8', 'html'],
    ['text/html, */*', 'html'],
    ['text/html, */*; q=0.01', 'html'],
    ['text/*', 'html'],
    ['text/html;q=0.2', 'html'],
    ['text/html;q=0.801,application/json;q=0.8', 'html'],
    ['application/json;q=0.9, text/html', 'html'],
    ['application/json; q=0 , text/html;q=0.001', 'html'],
    ['image/png,text/html ;q=0.7 , application/*;q=0.6', 'html'],
    ['text/html;q=1.000, application/json;q=0.999', 'html'],
    ['*/*', 'json'],
    ['application/json', 'json'],
    ['application/json, text/plain, */*', 'json'],
    ['application/json, text/html;q=0.9', 'json'],
    ['text/html, application/json', 'json'],
    ['text/html;q=0.8, application/json;q=0.85', 'json'],
    ['text/html;q=0.5, */*;q=0.6', 'json'],
    ['text/html;q=0', 'json'],
    ['text/html;q=0.0, */*;q=0', 'json'],
    ['text/html;q=0.5, application/problem+json', 'json'],
    ['text/htmlx, x-text/html', 'json'],
    ['image/*', 'json'],
    ['text/html;q=0.9, application/*', 'json'],
  ] as const) {
    const response = await front.send('/metrics', accept === undefined ? {} : { headers: { accept } })
    assert.deepEqual([response.status, format(response)], [404, wanted], `Accept: ${accept}`)
    assert.match(String(response.headers.vary), /Accept/)
  }
})

test('every error of the front has both forms', async () => {
  const limited = await startFront({ FLEET_TARGETS: app.target, FLEET_RATE: '1r/m', FLEET_BURST: 1 })
  const hasty = await startFront({ FLEET_TARGETS: app.target, FLEET_READ_TIMEOUT: '200ms' })
  const down = await startUpstream('down')
  await down.stop()
  const dead = await startFront({ FLEET_TARGETS: down.target })
  app.handler = (request, response) => {
    if (request.url === '/slow') return
    if (request.url === '/cut') request.resume().once('end', () => request.socket.destroy())
    else response.end('ok')
  }
  for (let turn = 0; turn < 2; turn++) await limited.send('/')
  const cases: readonly (readonly [number, typeof front, string, Ask?])[] = [
    [404, front, '/metrics'],
    [404, front, '/a/../b'],
    [413, front, '/', { method: 'POST', body: 'x'.repeat(2_000) }],
    [429, limited, '/'],
    [502, front, '/cut', { method: 'POST', body: 'x' }],
    [503, dead, '/'],
    [504, hasty, '/slow', { method: 'POST', body: 'x' }],
  ]
  for (const [status, through, path, ask] of cases) {
    const html = await through.send(path, { ...ask, headers: { accept: browser } })
    assert.deepEqual([html.status, format(html)], [status, 'html'], path)
    assert.match(html.body, new RegExp(`<h1>${status} `))
    assert.equal(html.headers['x-content-type-options'], 'nosniff')
    const json = await through.send(path, { ...ask, headers: { accept: '*/*' } })
    assert.deepEqual([json.status, format(json), JSON.parse(json.body).statusCode], [status, 'json', status], path)
  }
  app.handler = (_request, response) => response.end('ok')
})
