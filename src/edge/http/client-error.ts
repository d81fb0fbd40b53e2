import { lookup } from '../../base/dictionary.ts'
import { FleetError } from '../../base/errors.ts'
import { invalid } from './admission.ts'

/** What Node's parser could not read, with the bytes it was given last. */
export type ClientError = Error & { code?: string; rawPacket?: Buffer }

/**
 * Whether the client of a failed connection can be told. Errors of TLS come as `clientError` as well. Nothing may be written
 * then: the handshake may still complete, and bytes written by hand together with those of an HTTP/2 session are a fatal
 * error of Node, which ends the process.
 */
export const isAnswerable = ({ code = '' }: ClientError): boolean => /^(?:HPE_|ERR_HTTP_)/.test(code)

const notHttp = (): FleetError => invalid('it is not HTTP/1.1 as RFC 9112 has it')

/** By the code of Node's error. */
const byCode = lookup<Record<string, ((error: ClientError) => FleetError) | undefined>>({
  HPE_HEADER_OVERFLOW: () => new FleetError('FLEET_ERR_HEADERS_TOO_LARGE'),
  HPE_CHUNK_EXTENSIONS_OVERFLOW: () => new FleetError('FLEET_ERR_BODY_TOO_LARGE', 'chunk extensions'),
  // The parser says the same of a supported version that is not followed by CRLF.
  HPE_INVALID_VERSION: ({ rawPacket }) =>
    /HTTP\/1\.[01](?!\r\n)/.test(rawPacket?.toString('latin1') ?? '')
      ? notHttp()
      : new FleetError('FLEET_ERR_VERSION_UNSUPPORTED'),
  HPE_PAUSED_H2_UPGRADE: () => new FleetError('FLEET_ERR_VERSION_UNSUPPORTED'),
  ERR_HTTP_REQUEST_TIMEOUT: () => new FleetError('FLEET_ERR_REQUEST_TIMEOUT'),
})

/** The error that a client gets for what Node's parser has refused. */
export const fromClientError = (error: ClientError): FleetError => byCode[error.code ?? '']?.(error) ?? notHttp()
