import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'

/** A page with its styles and scripts inlined, and the Content-Security-Policy that allows exactly these. */
export interface Page {
  readonly html: string
  readonly policy: string
}

export interface PageOptions {
  readonly fleet: string
  /** Path of the dashboard. */
  readonly root: string
  readonly refreshMs: number
}

const asset = (name: string): string => readFileSync(new URL(`./assets/${name}`, import.meta.url), 'utf8')

const icon = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#2f9e5f"><circle cx="8" cy="4" r="3"/><circle cx="4" cy="11" r="3"/><circle cx="12" cy="11" r="3"/></g></svg>',
)}`

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
const escapeHtml = (text: string): string => text.replace(/[&<>"]/g, (char) => entities[char] ?? '')

const hash = (source: string): string => `'sha256-${createHash('sha256').update(source).digest('base64')}'`

/** Allows the page's own scripts and styles and requests to its own origin. */
const policyOf = (scripts: readonly string[], styles: readonly string[]): string =>
  [
    "default-src 'none'",
    `script-src ${scripts.map(hash).join(' ')}`,
    `style-src ${styles.map(hash).join(' ')}`,
    "connect-src 'self'",
    'img-src data:',
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'none'",
  ].join('; ')

/** Inlines the scripts and styles that the page names, in its order. The scripts are classic ones that share their top level. */
function build(name: string, values: Readonly<Record<string, string>>): Page {
  const [scripts, styles]: [string[], string[]] = [[], []]
  const inline = (tag: string, all: string[], file: string): string => {
    const source = asset(file)
    all.push(source)
    return `<${tag}>${source}</${tag}>`
  }
  const html = asset(`${name}.html`)
    .replace(/\{\{(\w+)\}\}/g, (_, key: string) => escapeHtml(values[key] ?? ''))
    .replace(/<link rel="stylesheet" href="([\w-]+\.css)">/g, (_, file: string) => inline('style', styles, file))
    .replace(/<script src="([\w-]+\.js)"><\/script>/g, (_, file: string) => inline('script', scripts, file))
  return { html, policy: policyOf(scripts, styles) }
}

/** Paths in the pages are relative, so that a reverse proxy may serve them under another prefix. */
const lastSegment = (root: string): string => root.slice(root.lastIndexOf('/') + 1)

/** The dashboard before the first data. */
export const dashboardPage = ({ fleet, root, refreshMs }: PageOptions): Page =>
  build('page', { fleet, icon, root: lastSegment(root), refreshMs: String(refreshMs) })

/** The dashboard for an operator whom a cookie authenticates, so that signing out is possible. */
export const withSignOut = ({ html, policy }: Page): Page => ({
  html: html.replace('id="sign-out" hidden', 'id="sign-out"'),
  policy,
})

/** The page for clients that are not signed in. It exposes nothing about the fleet, not even its name. */
export const signInPage = (root: string): Page => build('sign-in', { icon, root: lastSegment(root) })
