// Without a registry Grafana's image cannot run here. These tests check its files against its documentation
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { parse } from 'yaml'

const root = fileURLToPath(new URL('../../', import.meta.url))
const read = <T>(path: string): T => parse(readFileSync(`${root}${path}`, 'utf8')) as T

interface Service {
  image: string
  environment: Record<string, string>
  volumes: (string | object)[]
  ports: string[]
}
const { services } = read<{ services: Record<'grafana' | 'prometheus', Service> }>('docker-compose.loadbalancer.yml')
const { grafana } = services
/** The folder's mount point in the container. */
const mounted = (folder: string): string =>
  grafana.volumes
    .filter((volume) => typeof volume === 'string')
    .find((volume) => volume.startsWith(`./${folder}:`))
    ?.split(':')[1] ?? `nowhere: ${folder}`

const provisioning = 'deploy/observability/grafana/provisioning'
const dashboards = 'deploy/observability/grafana/dashboards'
const { datasources, ...source } = read<{
  apiVersion: number
  datasources: { name: string; uid: string; type: string; access: string; url: string; isDefault: boolean }[]
}>(`${provisioning}/datasources/prometheus.yml`)

test('the datasource is the Prometheus of the compose file', () => {
  assert.equal(mounted(provisioning), '/etc/grafana/provisioning')
  assert.equal(source.apiVersion, 1)
  const [datasource, ...others] = datasources
  assert.ok(datasource)
  assert.deepEqual(others, [])
  assert.deepEqual([datasource.type, datasource.access, datasource.isDefault], ['prometheus', 'proxy', true])
  // The service's name and its published port.
  const [, port] = /:(\d+)$/.exec(services.prometheus.ports[0] ?? '') ?? []
  assert.equal(datasource.url, `http://prometheus:${port}`)
})

test('the provider reads the mounted dashboards, and one of them is the home page', () => {
  const { apiVersion, providers } = read<{
    apiVersion: number
    providers: { name: string; type: string; options: { path: string } }[]
  }>(`${provisioning}/dashboards/fleet.yml`)
  assert.equal(apiVersion, 1)
  for (const { name, type, options } of providers) {
    assert.match(name, /./)
    assert.equal(type, 'file')
    assert.equal(options.path, mounted(dashboards))
  }
  assert.equal(providers.length, 1)
  const home = grafana.environment.GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH ?? ''
  assert.ok(
    readdirSync(root + dashboards).some((file) => home === `${mounted(dashboards)}/${file}`),
    home,
  )
})

interface Dashboard {
  id?: number
  uid: string
  title: string
  schemaVersion: number
  panels: {
    id: number
    title: string
    type: string
    datasource?: { type: string; uid: string }
    gridPos: { x: number; y: number; w: number; h: number }
    targets?: { refId: string; expr: string }[]
  }[]
}
const files = readdirSync(root + dashboards).filter((file) => file.endsWith('.json'))
const all = files.map((file) => JSON.parse(readFileSync(`${root}${dashboards}/${file}`, 'utf8')) as Dashboard)

test('every dashboard has a unique uid and title, and no id', () => {
  assert.ok(all.length > 0)
  assert.equal(new Set(all.map(({ uid }) => uid)).size, all.length)
  assert.equal(new Set(all.map(({ title }) => title)).size, all.length)
  for (const { id, uid } of all) {
    // Grafana assigns ids; a fixed one may belong to another dashboard.
    assert.equal(id ?? null, null)
    assert.match(uid, /^[\w-]{1,40}$/)
  }
})

for (const { title, schemaVersion, panels } of all) {
  test(`${title}: panels have unique ids, known types, an existing datasource, and do not overlap`, () => {
    assert.ok(schemaVersion >= 36, 'datasources are objects since 36')
    assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length)
    const taken = new Map<string, string>()
    for (const panel of panels) {
      assert.match(
        panel.type,
        /^(stat|timeseries|table|gauge|bargauge|heatmap|barchart|text|row|alertlist|state-timeline)$/,
      )
      const { x, y, w, h } = panel.gridPos
      assert.ok(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= 24, `${panel.title} is not on the grid`)
      for (let column = x; column < x + w; column++)
        for (let row = y; row < y + h; row++) {
          const cell = `${column}/${row}`
          assert.equal(taken.get(cell), undefined, `${panel.title} and ${taken.get(cell)} share ${cell}`)
          taken.set(cell, panel.title)
        }
      const targets = panel.targets ?? []
      assert.equal(new Set(targets.map(({ refId }) => refId)).size, targets.length)
      for (const { expr } of targets) assert.match(expr, /\S/)
      if (targets.length > 0)
        assert.ok(datasources.some(({ type, uid }) => type === panel.datasource?.type && uid === panel.datasource.uid))
    }
  })
}
