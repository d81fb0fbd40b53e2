/** The text with `%XX` decoded; undefined when a `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8. */
export function percentDecoded(text: string): string | undefined {
  try {
    return decodeURIComponent(text)
  } catch {
    return undefined
  }
}
