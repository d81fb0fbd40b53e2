import type { RateLimitOptions as RouteOptions } from '@fastify/rate-limit'
import { any, bool, either, fn, int, list, object, oneOf, record, type Shape, shape, text } from '../../base/options.ts'

type Function<K extends keyof RouteOptions> = Extract<RouteOptions[K], (...args: never[]) => unknown>

/** Units of `ms`, which @fastify/rate-limit uses; it replaces other text by a minute. */
const unit = '(ms|m(illi)?s(ec(ond)?s?)?|s(ec(ond)?s?)?|m(in(ute)?s?)?|h(r|our)?s?|d(ays?)?|w(ee)?ks?|w|y(ea)?rs?|y)'
const pattern = new RegExp(`^\\d*\\.?\\d+ *${unit}?$`, 'i')
const duration: Shape<string> = shape(
  "a duration such as '1 minute'",
  (value) => typeof value === 'string' && pattern.test(value),
)

/** @internal */
export const routeLimitOptions = {
  /** Requests per client and window. @default `rateLimit.max`, else 1,000 */
  max: either(int(0, Number.MAX_SAFE_INTEGER), fn<Function<'max'>>()),
  /** Length of the window, in milliseconds or as text. @default `rateLimit.timeWindow` */
  timeWindow: either(either(int(0, 31_536_000_000, 'milliseconds'), duration), fn<Function<'timeWindow'>>()),
  /** `fleet` or `instance`, as `rateLimit.scope`. @default `rateLimit.scope` */
  scope: oneOf('fleet', 'instance'),
  /** As `rateLimit.onOutage`. @default `rateLimit.onOutage` */
  onOutage: oneOf('reject', 'allow'),
  /** Routes of one group share a limit. */
  groupId: text,
  /** Hook that counts. After authentication `preHandler` knows the user. @default `'onRequest'` */
  hook: oneOf('onRequest', 'preParsing', 'preValidation', 'preHandler'),
  /** What a limit counts by. @default the client's address, see `ipv6Subnet` */
  keyGenerator: fn<Function<'keyGenerator'>>(),
  /** Keys without a limit, in place of `rateLimit.allow`. */
  allowList: either(list(text), fn<Function<'allowList'>>()),
  /** Serve the request if the store fails, with `onOutage: 'reject'`. */
  skipOnError: bool,
  /** Makes the error of a rejected request. */
  errorResponseBuilder: fn<Function<'errorResponseBuilder'>>(),
  /** Called for each request within the limit. */
  onExceeding: fn<Function<'onExceeding'>>(),
  /** Called for each rejected request. */
  onExceeded: fn<Function<'onExceeded'>>(),
  /** Headers of a rejected response, by name. */
  addHeaders: record(bool),
  /** Headers of other responses, by name. */
  addHeadersOnExceeding: record(bool),
  /** Not supported with a sliding window. @default -1 */
  ban: any<number>(),
  /** Not supported with a sliding window. @default `false` */
  continueExceeding: any<boolean>(),
  /** Not supported with a sliding window. @default `false` */
  exponentialBackoff: any<boolean>(),
}

export const routeLimit = either(oneOf(false), object(routeLimitOptions))
