/** Abbreviations whose full stop ends no sentence. */
const abbreviations = /\b(?:e\.g|i\.e|vs|etc|approx)\./g

/** The text of a node of Markdown as it is read: code counts as one word, images as none. */
export function textOf(node) {
  if (node.type === 'Code') return 'code'
  if (node.type === 'Image' || node.type === 'Html') return ''
  if (node.type === 'Break') return ' '
  return node.children ? node.children.map(textOf).join('') : (node.value ?? '')
}

/** Sentences of a paragraph, as text. Some begin with a small letter: with code, or the name of a program. */
export const sentencesOf = (paragraph) =>
  textOf(paragraph)
    .replace(/\s+/g, ' ')
    .replace(abbreviations, (text) => text.replaceAll('.', ''))
    .split(/(?<=[.!?][)"”]?) (?=[("“]?[\p{Lu}\p{N}]|code\b|nginx\b|pm2\b)/u)

export const wordsOf = (sentence) => sentence.match(/[\p{L}\p{N}][\p{L}\p{N}'’./:_-]*/gu) ?? []
