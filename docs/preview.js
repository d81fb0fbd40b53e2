// Serves the built site. `vitepress preview` compresses every file for each request with the slowest setting of Brotli: the search
// index takes seconds, in which a search finds nothing.
import { parseArgs } from 'node:util'
import { preview } from 'vite'

const { values } = parseArgs({ options: { port: { type: 'string', default: '4173' } } })
const server = await preview({
  configFile: false,
  appType: 'mpa',
  root: import.meta.dirname,
  build: { outDir: '.vitepress/dist' },
  preview: { port: Number(values.port), strictPort: true },
})
server.printUrls()
