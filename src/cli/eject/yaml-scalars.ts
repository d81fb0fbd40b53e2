import { isPair, isScalar, parseAllDocuments, visit } from 'yaml'

/** Replaces values of mappings in the text of a YAML file; comments and formatting stay. */
export function replaceScalars(text: string, replace: (key: string, value: string) => string | undefined): string {
  const edits: { start: number; end: number; value: string }[] = []
  for (const document of [parseAllDocuments(text)].flat()) {
    visit(document, {
      Scalar(position, { value, range }, path) {
        const pair = path.at(-1)
        if (position !== 'value' || !range || !isPair(pair) || !isScalar(pair.key)) return
        const fresh = replace(String(pair.key.value), String(value))
        if (fresh !== undefined) edits.push({ start: range[0], end: range[1], value: fresh })
      },
    })
  }
  return edits.reduceRight((edited, { start, end, value }) => edited.slice(0, start) + value + edited.slice(end), text)
}
