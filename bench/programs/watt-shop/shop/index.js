export { create } from '../../shop-session.js'
