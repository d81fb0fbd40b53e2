// Arguments: the upstreams. As little as a reverse proxy over undici can be: no health, no retries, no forwarded headers.
import { createServer } from 'node:http'
import { Pool } from 'undici'
import { listening, port } from './hello.js'

const pools = process.argv.slice(2).map((url) => new Pool(url))
const hopByHop = new Set(['connection', 'keep-alive', 'transfer-encoding', 'upgrade', 'te', 'host'])
let turn = 0

function ahead(raw) {
  const headers = []
  for (let i = 0; i < raw.length; i += 2) if (!hopByHop.has(raw[i].toLowerCase())) headers.push(raw[i], raw[i + 1])
  return headers
}

class Back {
  constructor(response) {
    this.response = response
  }
  onRequestStart(controller) {
    this.controller = controller
    this.response.once('close', () => {
      if (!this.response.writableFinished) controller.abort(new Error('client'))
    })
  }
  onResponseStart(_, status, headers) {
    const out = []
    for (const name in headers) if (!hopByHop.has(name)) out.push(name, headers[name])
    this.response.writeHead(status, out)
  }
  onResponseData(controller, chunk) {
    if (this.response.write(chunk)) return
    controller.pause()
    this.response.once('drain', () => controller.resume())
  }
  onResponseEnd() {
    this.response.end()
  }
  onResponseError() {
    if (this.response.headersSent) this.response.destroy()
    else this.response.writeHead(502).end()
  }
}

const server = createServer((request, response) => {
  const { url: path, method, rawHeaders } = request
  const body = method === 'GET' || method === 'HEAD' ? null : request
  pools[turn++ % pools.length].dispatch({ path, method, headers: ahead(rawHeaders), body }, new Back(response))
})
server.keepAliveTimeout = 72_000
server.listen(port, '127.0.0.1', listening)
