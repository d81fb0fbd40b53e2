# The same routing without paid load balancing: a Worker in front of the zone's own name.
resource "cloudflare_workers_script" "this" {
  count = var.steering == "worker" ? 1 : 0

  account_id         = var.account_id
  script_name        = var.name
  content            = file("${path.module}/worker/worker.js")
  main_module        = "worker.js"
  compatibility_date = "2026-05-01"

  bindings = [
    {
      name = "REGIONS"
      type = "json"
      json = jsonencode({
        for name, region in var.regions : name => {
          url       = "https://${region.address}"
          latitude  = region.latitude
          longitude = region.longitude
        }
      })
    },
    {
      name = "COUNTRIES"
      type = "json"
      json = jsonencode(var.countries)
    },
  ]
}

resource "cloudflare_workers_route" "this" {
  count = var.steering == "worker" ? 1 : 0

  zone_id = var.zone_id
  pattern = "${var.domain}/*"
  script  = cloudflare_workers_script.this[0].script_name
}
