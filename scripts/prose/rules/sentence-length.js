import { sentencesOf, wordsOf } from '../sentences.js'

const most = 30

/** Reports sentences of more than 30 words. Tables have none. */
export default ({ Syntax, RuleError, report }) => ({
  [Syntax.Paragraph](node) {
    for (const sentence of sentencesOf(node)) {
      const { length } = wordsOf(sentence)
      if (length > most) report(node, new RuleError(`${length} words in a sentence, more than ${most}: ${sentence}`))
    }
  },
})
