import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { instance, now, PageInMemory, type Response, scriptsOf } from './page-in-memory.ts'

/** The page of a fleet. `settle` waits until nothing runs any more. */
async function open({ hash = '', instances = [instance('a'), instance('b')] as object[], signedIn = false } = {}) {
  const filters: [string, string][] = ['text', 'state', 'pool', 'version', 'zone'].map((name) => [name, ''])
  const state = { instances, status: 200 }
  const page = new PageInMemory([], { hash, forms: { '#filters': filters } })
  page.element('#sign-out').hidden = !signedIn
  const bodies: Record<string, object> = {
    history: { stepMs: 10_000, points: [] },
    events: { events: [] },
    routes: { routes: [], omitted: 0, windowMs: 0 },
    dependencies: { redis: null, database: null, checks: [] },
  }
  page.respond = (path): Response => {
    const name = path.replace(/^fleet\/|\?.*$/g, '')
    const all = { servedBy: 'a', at: now, redis: { state: 'ok' }, instances: state.instances, departed: [] }
    return name === 'state' ? { status: state.status, body: all } : { body: bodies[name] ?? {} }
  }
  page.load(scriptsOf('page'))
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 10; i++) await turn()
  }
  await settle()
  const states = (): number => page.requests.filter(({ path }) => path === 'fleet/state').length
  return { page, state, states, settle }
}

describe('the page', () => {
  test('polls every turn while it is shown, every fifth in the background, and not while it is paused', async () => {
    const { page, states, settle } = await open()
    const turns = async (count: number): Promise<number> => {
      const before = states()
      for (let i = 0; i < count; i++) {
        page.tick()
        await settle()
      }
      return states() - before
    }
    assert.equal(states(), 1)
    assert.equal(await turns(4), 4)
    page.document.hidden = true
    assert.equal(await turns(10), 2)
    page.document.hidden = false
    const pause = page.element('#pause').listeners.get('click') as (event: object) => void
    pause({ currentTarget: page.element('#pause') })
    assert.equal(await turns(5), 0)
    pause({ currentTarget: page.element('#pause') })
    assert.equal(await turns(5), 5)
  })

  test('refreshes once at a time, and after a command with a request that started later', async () => {
    const { page, states, settle } = await open()
    const respond = page.respond
    const slow = Promise.withResolvers<void>()
    page.respond = async (path) => {
      await slow.promise
      return respond(path)
    }
    page.tick()
    await settle()
    assert.equal(states(), 2)
    const later = page.call('refreshNow')
    await settle()
    assert.equal(states(), 2, 'the one before has not ended')
    slow.resolve()
    await later
    assert.equal(states(), 3)
  })

  test('shows the view of its address, and the overview for any other', async () => {
    for (const [hash, view] of [
      ['#routes', 'routes'],
      ['#instances?state=lost', 'instances'],
      ['#toString', 'overview'],
      ['#nothing', 'overview'],
      ['', 'overview'],
    ] as const) {
      const { page } = await open({ hash })
      assert.equal(await page.value('shown'), view, hash)
    }
  })

  test('leaves no code of a one-time link in the address bar', async () => {
    const { page } = await open({ hash: '#code=secret' })
    assert.deepEqual(page.addresses, ['/fleet'])
    const other = await open({ hash: '#routes' })
    assert.deepEqual(other.page.addresses, [])
  })

  test('says that an instance is gone when it has vanished without a word', async () => {
    const { page, state } = await open()
    state.instances = [instance('a')]
    await page.call('refreshNow')
    assert.equal(page.element('#news').textContent, 'b is gone')
    assert.equal(page.element('#sentence').textContent, '1 of 2 serving; b gone 0 s ago')
  })

  test('renders the data of the view that is shown now', async () => {
    const { page, settle } = await open({ hash: '#routes' })
    await page.value('var rendered = []; for (const name in views) views[name].render = () => rendered.push(name); 0')
    const respond = page.respond
    const slow = Promise.withResolvers<void>()
    page.respond = async (path) => {
      await slow.promise
      return respond(path)
    }
    const refreshing = page.call('refreshView')
    await page.value("shown = 'deploy', 0")
    slow.resolve()
    await refreshing
    await settle()
    assert.deepEqual(await page.value('rendered'), [])
  })

  test('is loaded again when the sign-in has expired, and otherwise says that the fleet does not respond', async () => {
    for (const [status, signedIn, reloads] of [
      [404, true, 1],
      [404, false, 0],
      [503, true, 0],
    ] as const) {
      const { page, state } = await open({ signedIn })
      state.status = status
      await page.call('refreshNow')
      assert.deepEqual([page.reloads, page.element('#news').textContent], [reloads, 'The fleet does not respond'])
    }
  })

  test('signs out before it loads the page again', async () => {
    const { page, settle } = await open({ signedIn: true })
    const click = page.element('#sign-out').listeners.get('click') as () => Promise<void>
    const respond = page.respond
    page.respond = (path) => (path.endsWith('session') ? { status: 503 } : respond(path))
    await click()
    assert.equal(page.reloads, 0)
    page.respond = respond
    await click()
    await settle()
    const last = page.requests.findLast(({ path }) => path === 'fleet/session')
    assert.deepEqual([last?.init.method, page.reloads], ['DELETE', 1])
  })
})

describe('a command', () => {
  const commands = (page: PageInMemory): string[] =>
    page.requests.flatMap(({ path, init }) =>
      init.method === 'POST' ? [`${path.slice('fleet/'.length)} ${JSON.parse(init.body ?? '').instance}`] : [],
    )
  const press = (page: PageInMemory, id: string): Promise<unknown> =>
    page.value(`switchDrain(${JSON.stringify(id)}, $('#button'))`)

  test('is sent to the instance of its button, once while it runs, and the fleet is read after it', async () => {
    const { page, state, settle } = await open({ instances: ['a', 'b', 'c'].map((id) => instance(id)) })
    const respond = page.respond
    const slow = Promise.withResolvers<void>()
    page.respond = async (path) => {
      if (path === 'fleet/drain') await slow.promise
      return respond(path)
    }
    page.requests.length = 0
    const first = press(page, 'b')
    await settle()
    await press(page, 'b')
    assert.deepEqual(
      page.requests.map(({ path }) => path),
      ['fleet/drain'],
    )
    slow.resolve()
    await first
    assert.equal(page.requests[1]?.path, 'fleet/state')
    state.instances = [instance('a'), instance('b', { state: 'draining' }), instance('c')]
    await page.call('refreshNow')
    await press(page, 'b')
    await press(page, 'gone')
    assert.deepEqual(commands(page), ['drain b', 'undrain b'])
  })

  test('that failed can be sent again', async () => {
    const { page } = await open()
    const respond = page.respond
    page.respond = (path) => (path === 'fleet/drain' ? { status: 503, body: { message: 'no Redis' } } : respond(path))
    await press(page, 'b')
    assert.equal(page.element('#news').textContent, 'Could not drain b: no Redis')
    await press(page, 'b')
    assert.deepEqual(commands(page), ['drain b', 'drain b'])
  })

  test('that drains the last serving instance needs a confirmation each time', async () => {
    const { page, settle } = await open({ instances: [instance('a')] })
    const dialog = page.element('#guard')
    for (const [choice, expected] of [
      ['yes', ['drain a']],
      [undefined, ['drain a']],
      ['cancel', ['drain a']],
      ['', ['drain a']],
    ] as const) {
      const pressed = press(page, 'a')
      await settle()
      if (choice !== undefined) dialog.returnValue = choice
      dialog.listeners.get('close')?.({})
      await pressed
      assert.deepEqual(commands(page), expected, `closed with ${choice}`)
    }
  })
})

describe('the page for signing in', () => {
  function open(hash = '') {
    const page = new PageInMemory([], { hash })
    const form = page.element('#sign-in')
    const button = page.element('#button')
    form.querySelector = () => button
    page.respond = () => ({ status: 204 })
    page.load(scriptsOf('sign-in'))
    const submit = (token: string): unknown => {
      page.element('#token').value = token
      return form.listeners.get('submit')?.({ preventDefault() {} })
    }
    const sent = (): unknown[] => page.requests.map(({ path, init }) => [path, JSON.parse(init.body ?? '')])
    return { page, submit, sent }
  }

  test('sends the token of its field, once while it waits, and loads the page again', async () => {
    const { page, submit, sent } = open()
    submit(' token ')
    submit('other')
    await turn()
    assert.deepEqual([sent(), page.reloads], [[['fleet/session', { token: 'token' }]], 1])
    assert.deepEqual([page.limits, page.addresses], [[10_000], []])
  })

  test('sends the code of a one-time link, which does not stay in the address bar', async () => {
    const { page, sent } = open('#code=a.b-c')
    await turn()
    assert.deepEqual([sent(), page.addresses, page.reloads], [[['fleet/session', { code: 'a.b-c' }]], ['/fleet'], 1])
  })

  test('says why a sign-in failed, and allows another one', async () => {
    const { page, submit, sent } = open()
    page.respond = () => ({ status: 401, body: { message: 'the sign-in failed' } })
    submit('wrong')
    await turn()
    assert.deepEqual([page.element('#message').textContent, page.reloads], ['the sign-in failed', 0])
    page.respond = () => Promise.reject(new Error('no network'))
    submit('right')
    await turn()
    assert.equal(page.element('#message').textContent, 'The instance does not respond. Try again.')
    assert.equal(sent().length, 2)
  })
})
