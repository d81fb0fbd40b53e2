/** The one route of all hello programs, and what its answer says. */
export const hello = { hello: 'world' }
export const schema = { response: { 200: { type: 'object', properties: { hello: { type: 'string' } } } } }

/** Tells the runner that the program is ready. */
export const listening = () => process.stdout.write('listening\n')
export const port = Number(process.env.PORT)

// A measurement of memory asks for a collection first; one alone gives nothing back.
process.on('SIGUSR2', () => {
  for (let turn = 0; turn < 5; turn++) setTimeout(() => globalThis.gc?.(), turn * 100)
})
