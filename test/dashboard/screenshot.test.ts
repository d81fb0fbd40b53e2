import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'

const script = new URL('../../scripts/screenshot.js', import.meta.url).href
const { pageHash } = (await import(script)) as { pageHash: () => string }

test('the pictures of the dashboard show the current page', () => {
  const shown = readFileSync(new URL('../../docs/images/dashboard.sha256', import.meta.url), 'utf8').trim()
  assert.equal(shown, pageHash(), 'the page has changed: npm run screenshot')
})
