import { FleetError } from '../base/errors.ts'

/** Why Node gives a connection up, with the bytes that its parser was given last. */
export type ClientError = Error & { code?: string; rawPacket?: Buffer }

/**
 * Whether the client of a failed connection can be told. Errors of TLS come as `clientError` as well. Nothing may be written
 * then: the handshake may still complete, and bytes written by hand together with those of an HTTP/2 session are a fatal
 * error of Node, which ends the process.
 */
export const isAnswerable = ({ code = '' }: ClientError): boolean => /^(?:HPE_|ERR_HTTP_)/.test(code)

export const describeClientError = (error: ClientError): FleetError =>
  errors.get(error.code ?? '')?.(error) ?? notHttp()

const notHttp = (): FleetError => new FleetError('FLEET_ERR_REQUEST_INVALID', 'it is not HTTP/1.1 as RFC 9112 has it')

const errors = new Map<string, (error: ClientError) => FleetError>([
  ['HPE_HEADER_OVERFLOW', () => new FleetError('FLEET_ERR_HEADERS_TOO_LARGE')],
  ['HPE_CHUNK_EXTENSIONS_OVERFLOW', () => new FleetError('FLEET_ERR_BODY_TOO_LARGE', 'chunk extensions')],
  // The parser says the same of a supported version that is not followed by CRLF.
  [
    'HPE_INVALID_VERSION',
    ({ rawPacket }) =>
      /HTTP\/1\.[01](?!\r\n)/.test(rawPacket?.toString('latin1') ?? '')
        ? notHttp()
        : new FleetError('FLEET_ERR_VERSION_UNSUPPORTED'),
  ],
  ['HPE_PAUSED_H2_UPGRADE', () => new FleetError('FLEET_ERR_VERSION_UNSUPPORTED')],
  ['ERR_HTTP_REQUEST_TIMEOUT', () => new FleetError('FLEET_ERR_REQUEST_TIMEOUT')],
])
