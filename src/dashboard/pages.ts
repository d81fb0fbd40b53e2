import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** A page with its style and script inlined, and the Content-Security-Policy that allows exactly these. */
export interface Page {
  readonly html: string
  readonly policy: string
}

export interface PageOptions {
  readonly fleet: string
  /** Path of the dashboard. */
  readonly root: string
  readonly refreshMs: number
  /** Whether a cookie authenticates the operator, so that signing out is possible. */
  readonly signedIn: boolean
}

const asset = (name: string): string => readFileSync(new URL(`./assets/${name}`, import.meta.url), 'utf8')

const icon = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#2f9e5f"><circle cx="8" cy="4" r="3"/><circle cx="4" cy="11" r="3"/><circle cx="12" cy="11" r="3"/></g></svg>',
)}`

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (char) => entities[char] ?? '')

/** A function as replacement, because a string would have patterns such as `$&` expanded. */
function replaceOnce(html: string, tag: string, by: string): string {
  if (!html.includes(tag)) throw new Error(`${tag} is missing in the page`)
  return html.replace(tag, () => by)
}

const hash = (source: string): string => `'sha256-${createHash('sha256').update(source).digest('base64')}'`

/** Allows the page's own script and style and requests to its own origin. */
const policyOf = (script: string, style: string): string =>
  [
    "default-src 'none'",
    `script-src ${hash(script)}`,
    `style-src ${hash(style)}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')

function build(name: string, values: Readonly<Record<string, string>>): Page {
  const [style, script] = [asset('page.css'), asset(`${name}.js`)]
  let html = asset(`${name}.html`).replace(/\{\{(\w+)\}\}/g, (_, key: string) => escapeHtml(values[key] ?? ''))
  html = replaceOnce(html, '<link rel="stylesheet" href="page.css">', `<style>${style}</style>`)
  html = replaceOnce(html, `<script src="${name}.js"></script>`, `<script>${script}</script>`)
  return { html, policy: policyOf(script, style) }
}

/** Paths in the pages are relative, so that a reverse proxy may serve them under another prefix. */
const lastSegment = (root: string): string => root.slice(root.lastIndexOf('/') + 1)

/** The dashboard before the first data. */
export function dashboardPage({ fleet, root, refreshMs, signedIn }: PageOptions): Page {
  const page = build('page', { fleet, icon, root: lastSegment(root), refreshMs: String(refreshMs) })
  return signedIn ? { ...page, html: replaceOnce(page.html, 'id="sign-out" hidden', 'id="sign-out"') } : page
}

/** The page for clients that are not signed in. It exposes nothing about the fleet, not even its name. */
export const signInPage = (root: string): Page => build('sign-in', { icon, root: lastSegment(root) })
