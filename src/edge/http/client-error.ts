import { lookup } from '../../base/dictionary.ts'
import { FleetError } from '../../base/errors.ts'
import { invalid } from './admission.ts'

/** Node's error for bytes that its parser rejects, with the last bytes that it received. */
export type ClientError = Error & { code?: string; rawPacket?: Buffer }

/**
 * Whether an error response can be written. TLS errors are emitted as `clientError` too, and nothing may be written
 * after them: the handshake may still complete, and raw bytes among those of an HTTP/2 session are a fatal error in Node,
 * which ends the process.
 */
export const isRespondable = ({ code = '' }: ClientError): boolean => /^(?:HPE_|ERR_HTTP_)/.test(code)

const notHttp = (): FleetError => invalid('it is not valid HTTP/1.1 (RFC 9112)')

/** By the code of Node's error. */
const byCode = lookup<Record<string, ((error: ClientError) => FleetError) | undefined>>({
  HPE_HEADER_OVERFLOW: () => new FleetError('FLEET_ERR_HEADERS_TOO_LARGE'),
  HPE_CHUNK_EXTENSIONS_OVERFLOW: () => new FleetError('FLEET_ERR_BODY_TOO_LARGE', 'chunk extensions'),
  // The parser reports the same code for a supported version that is not followed by CRLF.
  HPE_INVALID_VERSION: ({ rawPacket }) =>
    /HTTP\/1\.[01](?!\r\n)/.test(rawPacket?.toString('latin1') ?? '')
      ? notHttp()
      : new FleetError('FLEET_ERR_VERSION_UNSUPPORTED'),
  HPE_PAUSED_H2_UPGRADE: () => new FleetError('FLEET_ERR_VERSION_UNSUPPORTED'),
  ERR_HTTP_REQUEST_TIMEOUT: () => new FleetError('FLEET_ERR_REQUEST_TIMEOUT'),
})

/** The error that a client receives for a request that Node's parser rejects. */
export const fromClientError = (error: ClientError): FleetError => byCode[error.code ?? '']?.(error) ?? notHttp()
