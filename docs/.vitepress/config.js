import { existsSync, readFileSync } from 'node:fs'
import { dirname, join, relative } from 'node:path'
import { defineConfig } from 'vitepress'

const { version, description } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8'))

/** The title of a page is its first heading. */
const page = (file) => ({
  text: /^# (.*)$/m.exec(readFileSync(new URL(`../${file}.md`, import.meta.url), 'utf8'))[1],
  link: `/${file}`,
})
const section = (text, folder, files) => ({
  text,
  collapsed: folder === 'reference/',
  items: files.split(' ').map((file) => page(folder + file)),
})

const root = join(import.meta.dirname, '../..')

/** Makes links between pages independent of where a page is in the site: `../README.md` in docs/ becomes `/`. */
function siteLinks(md) {
  md.core.ruler.push('site-links', ({ tokens, env }) => {
    const links = tokens.flatMap(({ children }) => children ?? []).filter(({ type }) => type === 'link_open')
    for (const link of links) {
      const [path, anchor] = link.attrGet('href').split('#')
      if (!path.endsWith('.md') || /^\w+:/.test(path)) continue
      const file = relative(root, join(dirname(env.realPath ?? env.path), path))
      if (!existsSync(join(root, file))) continue
      const renamed = { 'README.md': '', 'SECURITY.md': 'report-a-vulnerability' }[file]
      const page = renamed ?? file.replace(/^(?:docs|generated)\//, '').replace(/index\.md$|\.md$/, '')
      link.attrSet('href', `/${page}${anchor ? `#${anchor}` : ''}`)
    }
  })
}

/** So that the links between pages, which are written for GitHub, work here. */
const githubAnchor = (heading) =>
  heading
    .trim()
    .toLowerCase()
    .replace(/[^\p{L}\p{N}\p{M} _-]/gu, '')
    .replaceAll(' ', '-')

/** Licence texts and tables of figures, which would fill the results of many searches. */
const unsearched = /(?:THIRD_PARTY_LICENSES|RESULTS|MUTATION)\.md$/

/** Versions whose sites are kept in folders of this one; see "The site" in CONTRIBUTING.md. */
const older = (process.env.DOCS_VERSIONS ?? '').split(' ').filter(Boolean)

const api = JSON.parse(readFileSync(join(root, 'generated/api/typedoc-sidebar.json'), 'utf8'))

export default defineConfig({
  title: 'fastify-fleet',
  description,
  base: process.env.DOCS_BASE ?? '/',
  // No file of its own, and no request for /favicon.ico.
  head: [['link', { rel: 'icon', href: 'data:,' }]],
  // Pages outside docs/ are part of the site, so that every link between pages leads to a page.
  srcDir: '..',
  srcExclude: ['**/node_modules/**', 'prove-report/**', 'dist/**'],
  // docs/security.md has the same name but for its case.
  rewrites: {
    'README.md': 'index.md',
    'SECURITY.md': 'report-a-vulnerability.md',
    'docs/:rest*': ':rest*',
    'generated/:rest*': ':rest*',
  },
  outDir: './.vitepress/dist',
  cacheDir: './.vitepress/cache',
  cleanUrls: true,
  // Links to files that are no pages, such as sources and configurations, work in the repository only.
  ignoreDeadLinks: [
    /\/(?:src|deploy|nginx|haproxy|scripts|test|bench|examples|prisma)(?:\/|$)/,
    /(?:LICENSE|\.(?:ts|js|cjs|json|yml))$/,
  ],
  markdown: { languageAlias: { cjs: 'js' }, config: siteLinks, anchor: { slugify: githubAnchor } },
  // For pages outside docs/.
  vite: {
    resolve: { alias: [{ find: /^vue(?=$|\/)/, replacement: join(import.meta.dirname, '../node_modules/vue') }] },
  },
  themeConfig: {
    search: {
      provider: 'local',
      options: {
        _render: (text, env, md) => (unsearched.test(env.relativePath) ? '' : md.render(text, env)),
        // Guides and reference come before the API pages, which repeat their words.
        miniSearch: { searchOptions: { boostDocument: (id) => (/^\/api\//.test(id) ? 0.2 : 1) } },
      },
    },
    outline: [2, 3],
    nav: [
      { text: 'Guide', link: '/guide/tutorial' },
      { text: 'Reference', link: '/reference/' },
      { text: 'API', link: '/api/' },
      { text: 'Troubleshooting', link: '/troubleshooting' },
      {
        text: `v${version}`,
        items: [
          { text: 'Changelog', link: '/CHANGELOG' },
          { text: 'Migration', link: '/migration' },
          ...older.map((each) => ({ text: `v${each}`, link: `/${each}/`, target: '_self' })),
        ],
      },
    ],
    sidebar: [
      section(
        'Guide',
        'guide/',
        'tutorial production-checklist login background-jobs websockets testing zero-loss-deploys scaling-reads sizing without-redis upgrading',
      ),
      section('For app developers', '', 'compatibility sessions jwt cache limits locks database geo proxy-plugin'),
      section(
        'For operators',
        '',
        'guarantees troubleshooting lifecycle timeouts overload observability dashboard faults operators registry bounds security',
      ),
      section(
        'Deployment',
        '',
        'nginx haproxy balancer compose swarm processes kubernetes aws cloudflare deploy eject fleet-test doctor migration',
      ),
      section(
        'Coming from',
        'coming-from/',
        'index express-session fastify-session connect-redis fastify-rate-limit fastify-jwt graceful-shutdown pm2 watt hand-written',
      ),
      section(
        'Reference',
        'reference/',
        'index fleet identity headers lifecycle health overload metrics operators load-balancer agent-check error-responses security-headers redis registry broadcast locks session jwt rate-limit idempotency cache response-cache database geo dashboard proxy http-api http-headers redis-keys cli',
      ),
      { text: 'API', link: '/api/', collapsed: true, items: api },
      section('Tables', '', 'options environment errors benchmarks fuzzing'),
    ],
  },
})
