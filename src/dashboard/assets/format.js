// Figures, sizes and times as text. A figure that an instance does not report is a dash.

const plain = new Intl.NumberFormat('en', { maximumFractionDigits: 0 })
const precise = new Intl.NumberFormat('en', { maximumFractionDigits: 1 })
const compact = new Intl.NumberFormat('en', { notation: 'compact', maximumFractionDigits: 1 })
const clock = new Intl.DateTimeFormat('en', { timeStyle: 'medium', hourCycle: 'h23' })
const clockMinutes = new Intl.DateTimeFormat('en', { timeStyle: 'short', hourCycle: 'h23' })
const calendar = new Intl.DateTimeFormat('en', { weekday: 'long', day: 'numeric', month: 'long' })
const byName = new Intl.Collator('en', { numeric: true }).compare

const units = [
  ['day', 86_400_000],
  ['h', 3_600_000],
  ['min', 60_000],
]
const sizes = [
  ['TB', 1e12],
  ['GB', 1e9],
  ['MB', 1e6],
  ['kB', 1e3],
]

/** Dashes for what is not a number. */
const known = (write) => (value) => (Number.isFinite(value) ? write(value) : '–')

const format = {
  count: known((value) => (value < 100_000 ? plain.format(value) : compact.format(value))),
  rate: known((value) => (value < 100 ? precise : value < 100_000 ? plain : compact).format(value)),
  ms: known((ms) => {
    if (ms >= 10_000) return `${precise.format(ms / 1000)} s`
    return `${(ms < 100 ? precise : plain).format(ms)} ms`
  }),
  percent: known((share) => {
    if (share > 0 && share < 0.0005) return '<0.1 %'
    return `${(share < 0.1 ? precise : plain).format(share * 100)} %`
  }),
  bytes: known((bytes) => {
    const [unit, size] = sizes.find(([, size]) => bytes >= size) ?? ['B', 1]
    return `${(size >= 1e9 ? precise : plain).format(bytes / size)} ${unit}`
  }),
  /** The two largest units: 12 s, 3 min 20 s, 2 h 5 min, 1 day 3 h. */
  duration: known((ms) => {
    const i = units.findIndex(([, size]) => ms >= size)
    if (i < 0) return `${Math.max(0, Math.floor(ms / 1000))} s`
    const [unit, size] = units[i]
    const [smaller, part] = units[i + 1] ?? ['s', 1000]
    const [count, rest] = [Math.floor(ms / size), Math.floor((ms % size) / part)]
    const name = unit === 'day' && count > 1 ? 'days' : unit
    return rest > 0 ? `${count} ${name} ${rest} ${smaller}` : `${count} ${name}`
  }),
  time: known((at) => clock.format(at)),
  minute: known((at) => clockMinutes.format(at)),
  day: known((at) => calendar.format(at)),
  plural: (count, noun) => `${format.count(count)} ${noun}${count === 1 ? '' : 's'}`,
}
