// Requests to the instance that serves this page, or to any other behind the same address.

const { root, refresh } = document.documentElement.dataset
const signedIn = () => !$('#sign-out').hidden

async function ask(path, init) {
  const response = await fetch(`${root}/${path}`, { cache: 'no-store', signal: AbortSignal.timeout(5000), ...init })
  if (!response.ok) {
    const { message } = await response.json().catch(() => ({}))
    throw Object.assign(new Error(message ?? `status ${response.status}`), { status: response.status })
  }
  return response
}

const send = (path, body) =>
  ask(path, { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) })

async function loadState() {
  try {
    return readState(await (await ask('state')).json())
  } catch (error) {
    // The sign-in has expired: the instance offers it again.
    if (error.status === 404 && fleet && signedIn()) location.reload()
    throw error
  }
}

/**
 * The data of one view, or `undefined` if there is none. The view then says why and keeps what it shows, and the rest of the page
 * works on: during a rolling deploy an instance of an older version may respond.
 *
 * @param name of the notice, and of the data
 */
async function load(name, path) {
  try {
    const data = await (await ask(path)).json()
    notice(name, '')
    return data
  } catch (error) {
    if (error.status === 404) {
      notice(name, `${fleet.servedBy} has no ${name}: it runs an older version, or dashboard.history is false.`)
    } else if (error.status) notice(name, `No ${name}: ${error.message}`)
    else notice(name, `No ${name}: no response`)
    return undefined
  }
}

function notice(name, text) {
  for (const element of $all(`[data-notice=${name}]`)) {
    element.hidden = text === ''
    setText(element, text)
  }
}
