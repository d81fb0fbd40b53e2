const entities: Readonly<Record<string, string>> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;',
}

/** Escapes texts of instances for HTML. */
export const escaped = (value: unknown): string => String(value).replace(/[&<>"']/g, (char) => entities[char] ?? '')
