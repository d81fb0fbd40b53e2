// The scripts of the page are classic ones: they run in the order of page.html and share their top level.
//   dom, format, model, api   elements and news; figures as text; the state of the fleet; requests
//   chart, table              a chart over time; a sortable table that renders the visible rows only
//   overview … deploy         one view each, which adds itself to `views`
//   page                      the header, the choice of the view, and the loop that refreshes
// Values of the fleet reach the page as text content only. Only what changed is written, so focus, selection and the position of
// a screen reader stay.

const $ = (selector, within = document) => within.querySelector(selector)
const $all = (selector, within = document) => [...within.querySelectorAll(selector)]

/** `attributes` never hold markup, and `text` and strings among the children become text. */
function create(tag, { text, class: className, ...attributes } = {}, ...children) {
  const element = document.createElement(tag)
  if (className) element.className = className
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  if (text !== undefined) element.textContent = text
  element.append(...children)
  return element
}

/** As `create`, for the inside of an SVG. */
function createSvg(tag, attributes = {}) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag)
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value)
  return element
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text
}

function setAttribute(element, name, value) {
  if (element.getAttribute(name) !== value) element.setAttribute(name, value)
}

/** Replaces the children by those of `keys`, each made once by `make` and kept while its key is listed. */
function reconcile(parent, keys, make) {
  parent.byKey ??= new Map()
  const before = parent.byKey
  const after = new Map(keys.map((key) => [key, before.get(key) ?? make(key)]))
  for (const [key, child] of before) if (!after.has(key)) child.remove()
  let next = parent.firstChild
  for (const child of after.values()) {
    if (child === next) next = next.nextSibling
    else parent.insertBefore(child, next)
  }
  parent.byKey = after
  return after
}

let newsTimer
/** Shows a message, which screen readers announce. For changes only. */
function announce(text) {
  setText($('#news'), text)
  clearTimeout(newsTimer)
  newsTimer = setTimeout(() => setText($('#news'), ''), 6000)
}

/** A view: `refresh()` loads its own data, `render(fleet)` shows the state of the fleet. Both are called while it is shown. */
const views = {}
