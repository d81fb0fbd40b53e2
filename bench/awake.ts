/** Never sleeps, until the process that started it ends. */
function stay(): void {
  const end = performance.now() + 20
  while (performance.now() < end);
  setImmediate(stay)
}
process.once('disconnect', () => process.exit())
stay()
