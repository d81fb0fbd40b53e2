let last = 0

/**
 * The resident set of this process in bytes. Node reads it from a file, which fails when no descriptor is left; then the
 * last known value is returned, because a figure must not end a process that still serves.
 */
export function residentMemory(): number {
  try {
    last = process.memoryUsage.rss()
  } catch {
    // EMFILE
  }
  return last
}
