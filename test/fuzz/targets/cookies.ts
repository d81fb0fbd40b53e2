import assert from 'node:assert/strict'
import { CookieSigner } from '../../../src/state/session/signer.ts'
import type { Target } from '../engine/target.ts'

const secrets = ['0123456789abcdef0123456789abcdef', 'fedcba9876543210fedcba9876543210']
const signer = new CookieSigner(secrets, 'sha256')
const outsider = new CookieSigner(['another secret, of thirty-two bytes'], 'sha256')
const signed = signer.sign('the-session')
/** Issued by this signer, so valid. */
const issued = new Set([signed, signer.sign('a.b.c')])

/** Only values signed with one of the secrets are valid, and they are restored unchanged. */
export default {
  seeds: [signed, 'a', '', 'the-session.', `${signed}=`, `${signed} `, ...issued, 's:x.y', 'a.b.c.d', '\xe9.\xff'],
  dictionary: [signed.slice(-43), 'the-session', '.', '=', '%2E', '\0', '\xa0'],
  maxBytes: 512,
  run(input) {
    const text = input.toString('latin1')
    const mine = signer.sign(text)
    assert.deepEqual(signer.unsign(mine), { valid: true, renew: false, value: text })
    assert.equal(signer.unsign(outsider.sign(text)).valid, false)
    const { valid, value } = signer.unsign(text)
    if (valid) assert.ok(issued.has(text) || signer.sign(String(value)) === text, `accepted ${JSON.stringify(text)}`)
    if (input.length > 0) {
      const forged = Buffer.from(mine, 'latin1')
      const at = (input[0] as number) % forged.length
      // The lowest bit of the last character is not part of the digest; unsign() compares text.
      forged[at] = (forged[at] as number) ^ 1
      assert.equal(signer.unsign(forged.toString('latin1')).valid, false)
    }
    return `${valid}`
  },
} satisfies Target
