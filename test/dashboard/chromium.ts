import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { until } from '../helpers/until.ts'

/** Chromium on PATH, if any. Its tests run where there is one: `npm test` does not install a browser. */
export const chromium: string | undefined = (process.env.PATH ?? '')
  .split(delimiter)
  .flatMap((folder) => ['chromium', 'chromium-browser', 'google-chrome'].map((name) => join(folder, name)))
  .find((file) => {
    try {
      accessSync(file, constants.X_OK)
      return true
    } catch {
      return false
    }
  })

// Without these the browser calls home at every start, and a closed network makes it wait.
const quiet = ['--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-quic']

export interface Page {
  /** The value of an expression in the page; a promise is awaited. */
  evaluate<T>(expression: string): Promise<T>
  press(key: 'Tab' | 'Enter'): Promise<void>
  resize(width: number, height: number, media?: Record<string, string>): Promise<void>
  /** PNG of the whole page. */
  screenshot(): Promise<Buffer>
  /** What the console and the security policy complained of. */
  readonly complaints: readonly string[]
}

export interface Browser {
  open(url: string): Promise<Page>
  close(): Promise<void>
}

/** Starts Chromium without a window and speaks to it in its DevTools protocol. */
export async function launch(program: string): Promise<Browser> {
  const profile = await mkdtemp(join(tmpdir(), 'fleet-chromium-'))
  const sandbox = process.getuid?.() === 0 ? ['--no-sandbox'] : []
  const child = spawn(
    program,
    [
      '--headless',
      '--disable-gpu',
      '--no-first-run',
      ...quiet,
      ...sandbox,
      '--remote-debugging-port=0',
      `--user-data-dir=${profile}`,
    ],
    { stdio: 'ignore' },
  )
  const port = await until(
    async () => (await readFile(join(profile, 'DevToolsActivePort'), 'utf8').catch(() => '')).split('\n')[0],
    { timeoutMs: 30_000, what: 'Chromium' },
  )
  return {
    open: (url) => open(`http://127.0.0.1:${port}`, url),
    close: () => end(child, profile),
  }
}

async function end(child: ChildProcess, profile: string): Promise<void> {
  if (child.exitCode === null && child.signalCode === null) {
    child.kill('SIGTERM')
    await once(child, 'exit')
  }
  await rm(profile, { recursive: true, force: true, maxRetries: 10, retryDelay: 100 })
}

async function open(devtools: string, url: string): Promise<Page> {
  const target = (await (await fetch(`${devtools}/json/new?about:blank`, { method: 'PUT' })).json()) as Record<
    string,
    string
  >
  const socket = new WebSocket(target.webSocketDebuggerUrl ?? '')
  await once(socket as unknown as NodeJS.EventEmitter, 'open')
  const waiting = new Map<number, (answer: { result?: unknown; error?: { message: string } }) => void>()
  const complaints: string[] = []
  socket.addEventListener('message', ({ data }) => {
    const message = JSON.parse(String(data))
    waiting.get(message.id)?.(message)
    waiting.delete(message.id)
    if (message.method === 'Log.entryAdded') complaints.push(message.params.entry.text)
    if (message.method === 'Runtime.exceptionThrown') complaints.push(message.params.exceptionDetails.text)
  })
  let id = 0
  const send = async <T>(method: string, params: object = {}): Promise<T> => {
    const answer = await new Promise<{ result?: unknown; error?: { message: string } }>((resolve) => {
      waiting.set(++id, resolve)
      socket.send(JSON.stringify({ id, method, params }))
    })
    if (answer.error) throw new Error(`${method}: ${answer.error.message}`)
    return answer.result as T
  }
  for (const domain of ['Page', 'Runtime', 'Log']) await send(`${domain}.enable`)
  await send('Page.navigate', { url })
  return {
    complaints,
    async evaluate<T>(expression: string) {
      const options = { expression, awaitPromise: true, returnByValue: true, userGesture: true }
      const { result, exceptionDetails } = await send<{
        result: { value: T }
        exceptionDetails?: { exception?: { description?: string } }
      }>('Runtime.evaluate', options)
      if (exceptionDetails) throw new Error(exceptionDetails.exception?.description)
      return result.value
    },
    async press(key) {
      const code = { Tab: 9, Enter: 13 }[key]
      const text = key === 'Enter' ? '\r' : undefined
      const event = { key, code: key, windowsVirtualKeyCode: code, text }
      await send('Input.dispatchKeyEvent', { type: 'keyDown', ...event })
      await send('Input.dispatchKeyEvent', { type: 'keyUp', ...event })
    },
    async resize(width, height, media = {}) {
      await send('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: false })
      await send('Emulation.setScrollbarsHidden', { hidden: true })
      const features = Object.entries(media).map(([name, value]) => ({ name, value }))
      await send('Emulation.setEmulatedMedia', { features })
    },
    async screenshot() {
      const { data } = await send<{ data: string }>('Page.captureScreenshot', { captureBeyondViewport: true })
      return Buffer.from(data, 'base64')
    },
  }
}
