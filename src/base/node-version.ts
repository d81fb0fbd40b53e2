/** As `engines` in package.json says. */
const required = [22, 19] as const

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)

// Ends the process, because an error would hide its one line among those of a stack. Older versions of Node.js run this
// file too: it uses nothing that they lack.
if (major < required[0] || (major === required[0] && minor < required[1])) {
  console.error(`fastify-fleet needs Node.js ${required.join('.')} or later; this is ${process.versions.node}`)
  process.exit(1)
}
