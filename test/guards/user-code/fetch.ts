// Node's own `fetch`, of which @types/node has types where those of a browser are absent.
import { Balancer } from 'fastify-fleet/balancer'

const balancer = new Balancer(['http://a:1'])
export const response = await fetch('http://x', { dispatcher: balancer.dispatcher })
