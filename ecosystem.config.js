// For `pm2 start` without a file, which looks for this name only. The configuration is in ecosystem.config.cjs.
import config from './ecosystem.config.cjs'

export const { apps } = config
