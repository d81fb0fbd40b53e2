import { escaped, icon } from './page.ts'

/** The page for those who are not signed in. It tells nothing of the fleet, not even its name. */
export const signInPage = ({ root, script, style }: { root: string; script: string; style: string }): string =>
  `<!doctype html>
<html lang="en" data-root="${escaped(root.slice(root.lastIndexOf('/') + 1))}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="robots" content="noindex">
<title>Sign in · fleet</title>
<link rel="icon" href="${icon}">
<style>${style}</style>
</head>
<body>
<main class="sign-in">
  <h1>Sign in</h1>
  <form id="sign-in">
    <input type="text" name="username" value="operator" autocomplete="username" hidden>
    <label for="token">Operator token <span class="hint">(FLEET_ADMIN_TOKEN)</span></label>
    <input id="token" name="token" type="password" autocomplete="current-password" required autofocus aria-describedby="message">
    <button type="submit">Sign in</button>
  </form>
  <p id="message" role="alert"></p>
  <noscript><p>This page needs its script to send the token.</p></noscript>
</main>
<script>${script}</script>
</body>
</html>
`

/**
 * The code of a one-time link stands after the `#`, which a browser sends to nobody: so it is in no log and no Referer. It
 * leaves the address bar at once.
 */
export const signInScript: string = `
'use strict'
const { root } = document.documentElement.dataset
const form = document.getElementById('sign-in')
const field = document.getElementById('token')
const message = document.getElementById('message')
const button = form.querySelector('button')

async function enter(given) {
  message.textContent = ''
  button.setAttribute('aria-disabled', 'true')
  try {
    const response = await fetch(root + '/session', {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(given),
      signal: AbortSignal.timeout(10000),
    })
    if (response.ok) {
      location.reload()
      return
    }
    message.textContent = (await response.json().catch(() => ({}))).message ?? 'status ' + response.status
  } catch {
    message.textContent = 'The instance does not respond. Try again.'
  }
  button.removeAttribute('aria-disabled')
  field.focus()
  field.select()
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  if (button.getAttribute('aria-disabled') !== 'true') void enter({ token: field.value.trim() })
})
const code = new URLSearchParams(location.hash.slice(1)).get('code')
if (code !== null) {
  history.replaceState(null, '', location.pathname + location.search)
  void enter({ code })
}
`
