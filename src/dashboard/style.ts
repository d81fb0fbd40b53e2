/** One hue for figures, one each for what needs attention; everything else is ink, softer ink, and space. */
export const style: string = `
:root {
  color-scheme: light dark;
  --page: light-dark(#f6f7f9, #101317);
  --card: light-dark(#ffffff, #181c22);
  --ink: light-dark(#14181d, #e8ebef);
  --soft: light-dark(#586270, #98a2af);
  --line: light-dark(#e0e4e9, #2a3038);
  --figure: light-dark(#2a66c8, #7fb0ff);
  --good: light-dark(#1b7a43, #62d391);
  --wait: light-dark(#8a5a00, #f0b94d);
  --bad: light-dark(#b3261e, #ff8f87);
}
* { box-sizing: border-box }
body {
  margin: 0 auto; max-width: 76rem; padding: 1.5rem clamp(1rem, 4vw, 2.5rem) 4rem;
  background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums;
}
h1, h2, p, dl, dd, ul { margin: 0; padding: 0 }
ul { list-style: none }
header { display: flex; flex-wrap: wrap; align-items: baseline; gap: .25rem 1rem; margin-bottom: 1.5rem }
h1 { font-size: 1.5rem; font-weight: 650; letter-spacing: -.01em; outline: none; overflow-wrap: anywhere }
#freshness { flex: 1 1 8rem; color: var(--soft); font-size: .875rem }
.stale #freshness { color: var(--bad); font-weight: 600 }
.stale main { opacity: .55 }
button {
  font: inherit; font-size: .875rem; color: var(--ink); background: transparent;
  border: 1px solid var(--line); border-radius: .5rem; padding: .3rem .8rem; min-height: 2rem; cursor: pointer;
}
button:hover { border-color: var(--soft) }
button:focus-visible, h1:focus-visible { outline: 2px solid var(--figure); outline-offset: 2px }
button[aria-pressed=true] { background: var(--ink); color: var(--page); border-color: var(--ink) }
button[aria-disabled=true] { color: var(--soft); cursor: progress }
dt { color: var(--soft); font-size: .8125rem }
section + section { margin-top: 1.25rem }
section[aria-label="The fleet"], article { background: var(--card); border: 1px solid var(--line); border-radius: .875rem }
section[aria-label="The fleet"] { overflow: hidden }
.totals { display: grid; grid-template-columns: repeat(auto-fit, minmax(9rem, 1fr)); gap: 1rem 1.5rem; padding: 1.25rem 1.25rem .75rem }
.totals dd { font-size: 1.75rem; line-height: 1.25; font-weight: 600; letter-spacing: -.02em; white-space: nowrap }
.spark { display: block; width: 100%; height: 2.5rem }
#fleet-spark { height: 3.5rem }
.spark .line { fill: none; stroke: var(--figure); stroke-width: 1.5; vector-effect: non-scaling-stroke; stroke-linejoin: round }
.spark .area { fill: var(--figure); opacity: .12 }
#instances { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(19rem, 100%), 1fr)); gap: 1.25rem }
article { padding: 1.1rem 1.25rem; height: 100%; display: flex; flex-direction: column; gap: .75rem }
.head { display: flex; justify-content: space-between; align-items: baseline; gap: .75rem }
h2 { font-size: 1rem; font-weight: 600; overflow-wrap: anywhere }
.state { display: flex; align-items: center; gap: .4rem; font-size: .875rem; font-weight: 600; white-space: nowrap }
.state::before { content: ""; width: .55rem; height: .55rem; border-radius: 50%; background: currentColor }
[data-state=serving] .state { color: var(--good) }
[data-state=starting] .state, [data-state=draining] .state { color: var(--wait) }
[data-state=draining] .state::before { background: none; box-shadow: inset 0 0 0 2px currentColor }
[data-state=closed] .state, .failing { color: var(--bad) }
.place { margin-top: -.6rem; color: var(--soft); font-size: .8125rem; overflow-wrap: anywhere }
.failing { font-size: .875rem; font-weight: 600 }
article dl { display: grid; grid-template-columns: 1fr 1fr; gap: .6rem 1.25rem }
article dd { font-size: 1.125rem; font-weight: 600; line-height: 1.3 }
.meter { display: block; height: 4px; margin-top: .25rem; border-radius: 2px; background: var(--line); overflow: hidden }
.meter > span { display: block; height: 100%; width: 100%; background: var(--figure); transform: scaleX(0); transform-origin: left; transition: transform .4s }
.meter > span.busy { background: var(--bad) }
.foot { display: flex; justify-content: space-between; align-items: center; gap: .75rem; margin-top: auto; padding-top: .25rem }
.foot p { color: var(--soft); font-size: .8125rem }
#news { position: fixed; inset: auto 1rem 1rem; margin: 0 auto; width: fit-content; max-width: calc(100% - 2rem); padding: .5rem 1rem; border-radius: .5rem; background: var(--ink); color: var(--page); font-size: .875rem; overflow-wrap: anywhere }
#news:empty { opacity: 0 }
.sign-in { max-width: 26rem; margin: 12vh auto 0 }
.sign-in h1 { margin-bottom: 1rem }
.sign-in form { display: grid; gap: .5rem }
.sign-in input {
  font: inherit; width: 100%; padding: .4rem .6rem; border: 1px solid var(--soft); border-radius: .5rem;
  background: var(--card); color: var(--ink);
}
.sign-in input:focus-visible { outline: 2px solid var(--figure); outline-offset: 2px }
.sign-in button { justify-self: start; margin-top: .5rem }
.hint { color: var(--soft) }
#message { margin-top: 1rem; color: var(--bad); font-weight: 600; overflow-wrap: anywhere }
@media (prefers-reduced-motion: reduce) { * { transition: none !important } }
@media (forced-colors: active) { .meter > span { background: CanvasText } .state::before { forced-color-adjust: none } }
`
