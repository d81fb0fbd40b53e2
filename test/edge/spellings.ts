import { posix } from 'node:path'
import Fastify, { type FastifyInstance, type FastifyServerOptions } from 'fastify'
import { raw } from './raw.ts'

const encoded = (text: string): string =>
  text.replace(/[a-z]/gi, (letter) => `%${letter.charCodeAt(0).toString(16).padStart(2, '0')}`)

/** Request targets that some application may route like `path`, and some that only look alike. */
export function spellings(path: string): string[] {
  const [, first = '', ...rest] = path.split('/')
  const below = rest.length > 0 ? `/${rest.join('/')}` : ''
  const up = '/..'.repeat(rest.length + 1)
  return [
    path,
    `${path}?x`,
    `${path}#x`,
    `${path}/`,
    path.toUpperCase(),
    path.replace(/[a-z]/, (letter) => letter.toUpperCase()),
    `/${encoded(first)}${below}`,
    `/${encoded(first[0] as string).toUpperCase()}${first.slice(1)}${below}`,
    encoded(path),
    path.replace(/.$/, encoded),
    path.replace('-', '%2d'),
    `/${path}`,
    `///${path.slice(1)}`,
    path.replaceAll('/', '//'),
    path.replaceAll('/', '/./'),
    `/%2e${path}`,
    `/x/..${path}`,
    `/x/%2e%2e${path}`,
    `/x/.%2E${path}`,
    `/static/..${path}`,
    `/live/../${path}`,
    `/x/..;${path}`,
    `/x/..;a=b${path}`,
    `/..;${path}`,
    `/x;y/../${path.slice(1)}`,
    `/x/..%3b${path}`,
    `/x%2f..${path}`,
    `/x%2f..%2f${path.slice(1)}`,
    `/x%2fy/../..${path}`,
    `/x\\..${path}`,
    `/x%5c..${path}`,
    `/x/..%5c${path.slice(1)}`,
    `/\\${path.slice(1)}`,
    path.replace('/', '\\/'),
    `/${first}%2f${rest.join('%2f')}`,
    `/%2f${path.slice(1)}`,
    `${path};`,
    `${path};a=b`,
    `${path};a=b/c`,
    `${path}%3Ba`,
    `/${first};a=b${below}`,
    `/${first};${below}`,
    path.replaceAll(/(?<=[a-z0-9])(?=\/|$)/g, ';v=1'),
    `${path};${up}`,
    `${path};/..${up}/x`,
    `${path};${up}/health`,
    `${path};${up}/static/a.css`,
    `${path};${up}/%2e%2e;/x`,
    `${path};%zz`,
    `${path};%`,
    `${path};%00`,
    `${path};%ff`,
    `${path}%00`,
    `${path}#/../x`,
    `${path}#${up}/health`,
    `${path}#%zz`,
    `${path}?/../../x`,
    `${path}${up}/x`,
    `${path}/..`,
    `${path}/.`,
    `${path}/%2e%2e/${path.split('/').at(-1)}`,
    `http://x${path}`,
    `HTTP://x${path}`,
    `http://x//${path.slice(1)}`,
    `http://x/y/../${path.slice(1)}`,
    `http://x?${path}`,
    `http://x?a/..${path}`,
    `http://x#${path}`,
    `http://x/#${path}`,
    `http://x;${path}`,
    `http://x\\${path.slice(1)}`,
    `http://a:b@x${path}`,
    `http://${path}`,
    `http:${path}`,
    `https://x${path}`,
    `ftp://x${path}`,
  ]
}

/** Fastify's types lack the delimiter. */
export type RouterOptions = FastifyServerOptions['routerOptions'] & { useSemicolonDelimiter?: boolean }

/** An application with Fastify's most lenient routing, and two that resolve paths in their own way. */
export class Readers {
  readonly #apps: FastifyInstance[] = []
  readonly #urls: string[] = []
  readonly #paths: readonly string[]
  readonly #known = new Map<string, Promise<boolean>>()

  constructor(paths: readonly string[]) {
    this.#paths = paths
  }

  async listen(): Promise<void> {
    const lenient = { caseSensitive: false, ignoreDuplicateSlashes: true, ignoreTrailingSlash: true }
    const routers: RouterOptions[] = [{}, { useSemicolonDelimiter: true }, { ...lenient, useSemicolonDelimiter: true }]
    for (const routerOptions of routers) {
      for (const suffix of ['', '/*']) {
        const app = Fastify({ routerOptions: routerOptions as FastifyServerOptions['routerOptions'] })
        for (const path of this.#paths) {
          app.all(path, async () => 'protected')
          if (suffix !== '') app.all(path + suffix, async () => 'protected')
        }
        this.#apps.push(app)
        this.#urls.push(await app.listen({ port: 0, host: '127.0.0.1' }))
      }
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.#apps.map((app) => app.close()))
  }

  /** Whether any application routes this target to one of the paths. */
  reaches(target: string): Promise<boolean> {
    const known = this.#known.get(target) ?? this.#send(target)
    this.#known.set(target, known)
    return known
  }

  async #send(target: string): Promise<boolean> {
    const request = `GET ${target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`
    const texts = await Promise.all(this.#urls.map((url) => raw(url, request)))
    return texts.some((text) => text.endsWith('protected')) || this.#isResolvedTo(target)
  }

  #isResolvedTo(target: string): boolean {
    const origin = target.startsWith('/') ? `http://x${target}` : target
    // Like WHATWG URLs and servlets: without matrix parameters, with backslashes and encoded slashes as slashes.
    const path = URL.parse(origin)?.pathname ?? ''
    const own = origin.replace(/^[a-z]+:\/\/[^/?#]*/i, '').replace(/[?#].*$/s, '')
    return [path, own].some((text) => {
      let decoded: string
      try {
        decoded = decodeURIComponent(text).toLowerCase()
      } catch {
        return false
      }
      const servlet = posix.normalize(decoded.replaceAll('\\', '/').replace(/;[^/]*/g, ''))
      return [decoded, servlet].some((way) =>
        this.#paths.some((wanted) => way === wanted || way.startsWith(`${wanted}/`)),
      )
    })
  }
}
