import type { Dispatcher } from 'undici'
import { undici } from '../../base/internals/undici.ts'

/** The part of a balancer that a dispatcher uses. */
interface BalancerDispatch {
  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): unknown
  close(): Promise<void>
}

/** A dispatcher for Node's own `fetch` and for undici's that sends every request through `balancer`. */
export function balancedDispatcher(balancer: BalancerDispatch): Dispatcher {
  const { Dispatcher, Dispatcher1Wrapper } = undici()
  class BalancedDispatcher extends Dispatcher {
    override dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): boolean {
      balancer.dispatch(options, handler)
      return true
    }

    override close(): Promise<void> {
      return balancer.close()
    }
  }
  return new Dispatcher1Wrapper(new BalancedDispatcher())
}
