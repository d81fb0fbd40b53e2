import type { FastifyInstance, InjectOptions, LightMyRequestResponse } from 'fastify'

type Payload = InjectOptions['payload']

/** A client that keeps cookies, as a browser does. */
export class Browser {
  readonly cookies = new Map<string, string>()

  /** The same client in another window. */
  clone(): Browser {
    const other = new Browser()
    for (const [name, value] of this.cookies) other.cookies.set(name, value)
    return other
  }

  get(app: FastifyInstance, url: string): Promise<LightMyRequestResponse> {
    return this.send(app, { method: 'GET', url })
  }

  post(app: FastifyInstance, url: string, payload: Payload = {}): Promise<LightMyRequestResponse> {
    return this.send(app, { method: 'POST', url, payload })
  }

  async send(app: FastifyInstance, request: InjectOptions): Promise<LightMyRequestResponse> {
    const cookie = [...this.cookies].map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join('; ')
    const response = await app.inject({ ...request, headers: { ...request.headers, ...(cookie && { cookie }) } })
    for (const { name, value, expires } of response.cookies) {
      if (expires && expires.getTime() <= Date.now()) this.cookies.delete(name)
      else this.cookies.set(name, value)
    }
    return response
  }
}
