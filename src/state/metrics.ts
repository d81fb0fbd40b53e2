export { expose, exposeGauge } from '../instance/metrics/expose.ts'
