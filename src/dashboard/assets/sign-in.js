// A one-time link has its code after the `#`, which browsers do not send, so it is in no log and no Referer.

const { root } = document.documentElement.dataset
const form = document.getElementById('sign-in')
const field = document.getElementById('token')
const message = document.getElementById('message')
const button = form.querySelector('button')

async function signIn(credentials) {
  message.textContent = ''
  button.setAttribute('aria-disabled', 'true')
  try {
    const response = await fetch(`${root}/session`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(credentials),
      signal: AbortSignal.timeout(10000),
    })
    if (response.ok) {
      location.reload()
      return
    }
    message.textContent = (await response.json().catch(() => ({}))).message ?? `status ${response.status}`
  } catch {
    message.textContent = 'The instance does not respond. Try again.'
  }
  button.removeAttribute('aria-disabled')
  field.focus()
  field.select()
}

form.addEventListener('submit', (event) => {
  event.preventDefault()
  if (button.getAttribute('aria-disabled') !== 'true') void signIn({ token: field.value.trim() })
})
field.focus()
const code = new URLSearchParams(location.hash.slice(1)).get('code')
if (code !== null) {
  // The code must not stay in the address bar.
  history.replaceState(null, '', location.pathname + location.search)
  void signIn({ code })
}
