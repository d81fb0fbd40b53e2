// Prints the Flesch reading ease of each page: 206.835 − 1.015 × words per sentence − 84.6 × syllables per word (Flesch,
// "A new readability yardstick", Journal of Applied Psychology, 1948). Higher is easier; technical prose has 30 to 60.
// Tables and blocks of code do not count.
//
//   npm run reading-ease
import { globSync, readFileSync } from 'node:fs'
import { parse } from '@textlint/markdown-to-ast'
import { sentencesOf, wordsOf } from './sentences.js'

/** Groups of vowels, without a silent e. */
const syllables = (word) =>
  Math.max(
    1,
    word
      .toLowerCase()
      .replace(/(?:es|ed|e)$/, '')
      .match(/[aeiouy]+/g)?.length ?? 1,
  )

function* paragraphs(node) {
  if (node.type === 'Paragraph') yield node
  else if (node.type !== 'Table') for (const child of node.children ?? []) yield* paragraphs(child)
}

function measure(file) {
  const sentences = [...paragraphs(parse(readFileSync(file, 'utf8')))].flatMap(sentencesOf).map(wordsOf)
  // Code is a word, but how it is spoken is unknown.
  const words = sentences.flat().filter((word) => word !== 'code')
  const perSentence = sentences.flat().length / sentences.length
  const perWord = words.reduce((sum, word) => sum + syllables(word), 0) / words.length
  return { ease: 206.835 - 1.015 * perSentence - 84.6 * perWord, perSentence }
}

const pages = globSync(
  ['README.md', 'CONTRIBUTING.md', 'SECURITY.md', '{test,bench}/README.md', '{docs,examples}/**/*.md'],
  { exclude: ['**/node_modules/**'] },
)
  .map((file) => ({ file, ...measure(file) }))
  .sort((a, b) => a.ease - b.ease)
for (const { file, ease, perSentence } of pages)
  console.log(`${ease.toFixed(0).padStart(3)}  ${perSentence.toFixed(1).padStart(4)} words per sentence  ${file}`)
