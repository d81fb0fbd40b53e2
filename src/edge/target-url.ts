import { FleetError } from '../base/errors.ts'

/** Host and port for `net.connect`. */
export function addressOf({ protocol, hostname, port }: URL): { host: string; port: number } {
  return { host: hostname.replace(/^\[|\]$/g, ''), port: Number(port) || (protocol === 'https:' ? 443 : 80) }
}

/** @throws FLEET_ERR_TARGET_INVALID */
export function parseTarget(text: string | undefined): URL {
  const url = URL.parse(text ?? '')
  const schemes = ['http:', 'https:', 'tcp:']
  const port = url?.protocol !== 'tcp:' || url.port !== ''
  if (url && schemes.includes(url.protocol) && url.hostname && port && !url.username && /^\/?$/.test(url.pathname)) {
    if (url.search === '' && url.hash === '') return url
  }
  throw new FleetError(
    'FLEET_ERR_TARGET_INVALID',
    `${JSON.stringify(text?.slice(0, 100))} must be http://host:port, https://host:port or tcp://host:port, without a path`,
  )
}
