// The API pages, one for each entry point of the package, made from its types. `npm run build` writes them to `generated/api`.
import { readFileSync } from 'node:fs'
import { join, relative } from 'node:path'
import { Converter } from 'typedoc'

const root = join(import.meta.dirname, '..')
const { name, exports } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))

/** Source by entry point: `./locks` in `dist/state/locks/index.js` comes from `src/state/locks/index.ts`. */
const sources = new Map()
for (const [path, entry] of Object.entries(exports)) {
  if (entry.types) sources.set(path, entry.default.replace(/^\.\/dist\/(.*)\.js$/, 'src/$1.ts'))
}

/** A page has the name by which its module is imported. */
function importNames(app) {
  app.converter.on(Converter.EVENT_RESOLVE_BEGIN, ({ project }) => {
    for (const reflection of project.children) {
      const source = relative(root, reflection.sources[0].fullFileName)
      const [path] = [...sources].find(([, file]) => file === source)
      reflection.name = path === '.' ? name : path.slice(2)
    }
  })
}

export default {
  entryPoints: [...sources.values()].map((file) => join(root, file)),
  tsconfig: join(root, 'tsconfig.types.json'),
  out: join(root, 'generated/api'),
  docsRoot: join(root, 'generated'),
  plugin: [importNames, 'typedoc-plugin-markdown', 'typedoc-vitepress-theme'],
  router: 'module',
  // `npm run types` checks the types, with the version of TypeScript that the package is written for.
  skipErrorChecking: true,
  excludeInternal: true,
  excludePrivate: true,
  excludeExternals: true,
  readme: 'none',
  logLevel: 'Error',
  hideBreadcrumbs: true,
  hidePageHeader: true,
  useHTMLAnchors: true,
  pageTitleTemplates: {
    index: () => `The API of ${name}`,
    module: (page) => (page.name === name ? name : `${name}/${page.name}`),
  },
}
