export interface PageParts {
  readonly fleet: string
  readonly root: string
  readonly refreshMs: number
  /** By a cookie, so that signing out is possible. */
  readonly signedIn: boolean
  readonly script: string
  readonly style: string
}

const entities: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }
export const escaped = (text: string): string => text.replace(/[&<>"]/g, (char) => entities[char] ?? '')

export const icon: string = `data:image/svg+xml,${encodeURIComponent(
  '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><g fill="#2f9e5f"><circle cx="8" cy="4" r="3"/><circle cx="4" cy="11" r="3"/><circle cx="12" cy="11" r="3"/></g></svg>',
)}`

/** The page as it is before the first figures. It names its paths relative to itself, so that a front may move it. */
export const page = ({ fleet, root, refreshMs, signedIn, script, style }: PageParts): string => `<!doctype html>
<html lang="en" data-root="${escaped(root.slice(root.lastIndexOf('/') + 1))}" data-refresh="${refreshMs}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>${escaped(fleet)} · fleet</title>
<link rel="icon" href="${icon}">
<style>${style}</style>
</head>
<body>
<header>
  <h1 tabindex="-1">${escaped(fleet)}</h1>
  <p id="freshness">waiting for the first figures</p>
  <button type="button" id="pause" aria-pressed="false">Pause updates</button>
  <button type="button" id="sign-out"${signedIn ? '' : ' hidden'}>Sign out</button>
</header>
<main>
  <section aria-label="The fleet">
    <dl class="totals">
      <div><dt>Serving</dt><dd data-total="serving">–</dd></div>
      <div><dt>Requests per second</dt><dd data-total="rps">–</dd></div>
      <div><dt>Slowest p95</dt><dd data-total="p95">–</dd></div>
      <div><dt>Busiest event loop</dt><dd data-total="loop">–</dd></div>
      <div><dt>Memory</dt><dd data-total="memory">–</dd></div>
    </dl>
    <svg class="spark" id="fleet-spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true"><path class="area"/><path class="line"/></svg>
  </section>
  <section aria-label="Instances">
    <ul id="instances"></ul>
  </section>
  <noscript><p>This page needs its script: it asks the instance for figures and shows them.</p></noscript>
</main>
<p id="news" role="status" aria-live="polite"></p>
<template id="card">
  <li>
    <article>
      <div class="head">
        <h2 data-field="id"></h2>
        <p class="state" data-field="state"></p>
      </div>
      <p class="place" data-field="place"></p>
      <p class="failing" data-field="failing" hidden></p>
      <svg class="spark" viewBox="0 0 100 24" preserveAspectRatio="none" aria-hidden="true"><path class="area"/><path class="line"/></svg>
      <dl>
        <div><dt>Requests/s</dt><dd data-field="rps"></dd></div>
        <div><dt>p95</dt><dd data-field="p95"></dd></div>
        <div><dt>Event loop</dt><dd><span data-field="loop"></span><span class="meter" aria-hidden="true"><span data-field="meter"></span></span></dd></div>
        <div><dt>Memory</dt><dd data-field="memory"></dd></div>
      </dl>
      <div class="foot">
        <p data-field="up"></p>
        <button type="button" data-field="switch"></button>
      </div>
    </article>
  </li>
</template>
<script>${script}</script>
</body>
</html>
`
