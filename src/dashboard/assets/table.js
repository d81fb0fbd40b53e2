// A table that renders the visible rows only, so a thousand rows cost as much as thirty. All rows have the same height.

const spareRows = 8
/** As in views.css, px. */
const rowHeight = 34

const classOf = ({ numeric, className = '' }) => (numeric ? 'number' : className)

/**
 * @param label name of the region that scrolls
 * @param columns `{ key, title, width, numeric, className, text(row) or fill(cell, row), value(row) to sort by, merge }`; widths in rem
 * @param keyOf identity of a row: its cells and the focus in them are kept
 * @param isLast rows that stay after the others, in the order given
 * @param mergeOf text that replaces the cells of the columns with `merge`, or `undefined`
 */
function createTable({ label, columns, keyOf, toneOf: rowTone, mergeOf = () => undefined, isLast, order, whenEmpty }) {
  const [body, top, bottom] = [create('tbody'), create('tr', { class: 'space' }), create('tr', { class: 'space' })]
  const [columnGroup, head] = [create('colgroup'), create('tr', { 'aria-rowindex': '1' })]
  const table = create('table', {}, columnGroup, create('thead', {}, head), body)
  const empty = create('p', { class: 'empty', text: whenEmpty })
  const element = create('div', { class: 'rows', role: 'region', tabindex: '-1', 'aria-label': label }, table, empty)
  for (const space of [top, bottom]) {
    space.setAttribute('aria-hidden', 'true')
    space.append(create('td'))
  }
  body.append(top, bottom)
  let shown = []
  let rows = []
  const rendered = new Map()
  let { key: sortKey, descending } = order

  function setColumns(next) {
    shown = next
    rendered.clear()
    body.replaceChildren(top, bottom)
    for (const space of [top, bottom]) space.firstChild.colSpan = next.length
    columnGroup.replaceChildren(...next.map(() => create('col')))
    let least = 0
    for (const [i, { width }] of next.entries()) {
      if (i > 0) columnGroup.children[i].style.width = `${width}rem`
      least += width
    }
    table.style.minWidth = `${least}rem`
    head.replaceChildren(...next.map(createHeading))
  }

  function createHeading(column) {
    const { key, title, value, numeric } = column
    const cell = create('th', { scope: 'col', class: classOf(column) })
    if (!value) {
      cell.textContent = title
      return cell
    }
    const button = create('button', { type: 'button', text: title })
    button.addEventListener('click', () => {
      // Figures are asked for their largest first.
      setOrder(key, key === sortKey ? !descending : numeric === true)
    })
    cell.append(button)
    return cell
  }

  function setOrder(key, isDescending) {
    sortKey = key
    descending = isDescending
    element.scrollTop = 0
    update(rows)
    element.dispatchEvent(new CustomEvent('sorted', { detail: { key, descending } }))
  }

  function sort() {
    const column = columns.find(({ key }) => key === sortKey)
    for (const [i, cell] of [...head.children].entries()) {
      if (shown[i].key === sortKey) cell.setAttribute('aria-sort', descending ? 'descending' : 'ascending')
      else cell.removeAttribute('aria-sort')
    }
    if (!column) return rows
    if (!isLast) return sortBy(rows, column)
    return [
      ...sortBy(
        rows.filter((row) => !isLast(row)),
        column,
      ),
      ...rows.filter(isLast),
    ]
  }

  function sortBy(some, { value }) {
    const sign = descending ? -1 : 1
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)]
      if (x === y) return 0
      // What is not known is last in both directions.
      if (x === undefined || x === null) return 1
      if (y === undefined || y === null) return -1
      return sign * (typeof x === 'string' ? byName(x, y) : x - y)
    }
    return some.toSorted(compare)
  }

  function createRow(row) {
    const merged = mergeOf(row) !== undefined
    const element = create('tr', { class: merged ? 'departed' : '' })
    let joined
    for (const [i, column] of shown.entries()) {
      if (merged && column.merge) {
        if (joined) joined.colSpan++
        else {
          joined = create('td')
          element.append(joined)
        }
        continue
      }
      const cell = i === 0 ? create('th', { scope: 'row' }) : create('td')
      cell.className = classOf(column)
      element.append(cell)
    }
    return element
  }

  function fillRow(element, row) {
    const merged = mergeOf(row)
    setAttribute(element, 'data-tone', rowTone?.(row) ?? 'none')
    let cell = element.firstChild
    let joined = false
    for (const column of shown) {
      if (merged !== undefined && column.merge) {
        if (joined) continue
        joined = true
        setText(cell, merged)
        setAttribute(cell, 'title', merged)
      } else if (column.fill) {
        column.fill(cell, row)
      } else {
        const text = column.text(row)
        setText(cell, text)
        if (!column.numeric) setAttribute(cell, 'title', text)
      }
      cell = cell.nextSibling
    }
  }

  let sorted = []
  /** Renders the rows in sight and a few around them. */
  function render() {
    const first = Math.max(0, Math.floor(element.scrollTop / rowHeight) - spareRows)
    const last = Math.min(sorted.length, Math.ceil((element.scrollTop + element.clientHeight) / rowHeight) + spareRows)
    const visible = sorted.slice(first, last)
    const focused = document.activeElement
    const held = element.contains(focused) && focused !== element ? focused : undefined
    const keys = new Set(visible.map(keyOf))
    for (const [key, row] of rendered) {
      if (keys.has(key)) continue
      row.remove()
      rendered.delete(key)
    }
    let next = top.nextSibling
    for (const [i, row] of visible.entries()) {
      const key = keyOf(row)
      let line = rendered.get(key)
      if (!line) {
        line = createRow(row)
        rendered.set(key, line)
      }
      if (line === next) next = next.nextSibling
      else body.insertBefore(line, next)
      setAttribute(line, 'aria-rowindex', String(first + i + 2))
      fillRow(line, row)
    }
    top.firstChild.style.height = `${first * rowHeight}px`
    bottom.firstChild.style.height = `${(sorted.length - last) * rowHeight}px`
    top.hidden = first === 0
    bottom.hidden = last === sorted.length
    // A row that moved has lost the focus; that of a row which is gone goes to the table.
    if (held && document.activeElement !== held) (held.isConnected ? held : element).focus({ preventScroll: true })
  }
  element.addEventListener('scroll', render, { passive: true })
  new ResizeObserver(() => {
    render()
    markScrollable()
  }).observe(element)

  /** @param visibleColumns those of `columns` that have something to show */
  function update(next, visibleColumns = shown.length > 0 ? shown : columns) {
    const same = visibleColumns.length === shown.length && visibleColumns.every((column, i) => column === shown[i])
    if (!same) setColumns(visibleColumns)
    rows = next
    sorted = sort()
    setAttribute(table, 'aria-rowcount', String(sorted.length + 1))
    empty.hidden = sorted.length > 0
    table.hidden = sorted.length === 0
    render()
    markScrollable()
  }

  /** Only a table that scrolls is a stop of the Tab key. */
  function markScrollable() {
    const scrolls = element.scrollHeight > element.clientHeight || element.scrollWidth > element.clientWidth
    setAttribute(element, 'tabindex', scrolls ? '0' : '-1')
  }
  return { element, update, setOrder }
}
