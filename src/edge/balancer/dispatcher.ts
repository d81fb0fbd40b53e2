import type { Dispatcher } from 'undici'
import { undici } from './undici.ts'

/** What a dispatcher needs of a balancer. */
interface BalancerDispatch {
  dispatch(options: Dispatcher.DispatchOptions, handler: Dispatcher.DispatchHandler): unknown
  close(): Promise<void>
}

/** A dispatcher for Node's own `fetch` and for undici's that sends everything through `balancer`. */
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
