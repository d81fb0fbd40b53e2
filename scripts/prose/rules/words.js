/** Words and what to say instead. test/guards/language.test.ts has those of the glossary, which hold for code, too. */
const instead = [
  [/\b(?:utili[sz]e[sd]?|utili[sz]ing)\b/i, 'use'],
  [/\bin order to\b/i, 'to'],
  [/\bprior to\b/i, 'before'],
  [/\bin the event (?:of|that)\b/i, 'if'],
  [/\b(?:simply|obviously|of course|please note)\b/i, 'nothing: the sentence is clear without it'],
  [/\bdoes not answer\b/i, 'does not respond'],
  [/\b(?:a|the) stranger\b/i, 'an unknown client'],
]

export default ({ Syntax, RuleError, report, getSource, locator }) => ({
  [Syntax.Str](node) {
    const text = getSource(node)
    for (const [pattern, better] of instead) {
      const found = pattern.exec(text)
      if (found) {
        const padding = locator.range([found.index, found.index + found[0].length])
        report(node, new RuleError(`say ${better} instead of "${found[0]}"`, { padding }))
      }
    }
  },
})
