# The same routing without paid load balancing: a Worker in front of the zone's own name. It can also choose among pools.
locals {
  routes = compact(split(" ", replace(var.routes, "/[\\s,]+/", " ")))
  # Other names of the zone that routes mention: `//shop.example.com/api=shop`.
  hosts = distinct([for route in local.routes : lower(regex("^//([^/:=]+)", route)[0]) if startswith(route, "//")])
}

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
      name = "POOLS"
      type = "json"
      json = jsonencode({
        for pool, addresses in var.pools : pool => {
          for name, address in addresses : name => {
            url       = "https://${address}"
            latitude  = var.regions[name].latitude
            longitude = var.regions[name].longitude
          }
        }
      })
    },
    {
      name = "ROUTES"
      type = "plain_text"
      text = var.routes
    },
    {
      name = "COUNTRIES"
      type = "json"
      json = jsonencode(var.countries)
    },
  ]

  lifecycle {
    precondition {
      condition     = alltrue([for route in local.routes : contains(concat(["default"], keys(var.pools)), regex("[^=]*$", route))])
      error_message = "routes: each route is MATCH=POOL with a pool of `pools`, or default."
    }
    precondition {
      condition     = alltrue([for addresses in values(var.pools) : alltrue([for name in keys(addresses) : contains(local.names, name)])])
      error_message = "pools: each pool maps regions of `regions` to addresses."
    }
    precondition {
      condition     = alltrue([for name in values(var.countries) : contains(local.names, name)])
      error_message = "countries: each country is bound to one of `regions`."
    }
  }
}

resource "cloudflare_workers_route" "this" {
  count = var.steering == "worker" ? 1 : 0

  zone_id = var.zone_id
  pattern = "${var.domain}/*"
  script  = cloudflare_workers_script.this[0].script_name
}

resource "cloudflare_workers_route" "hosts" {
  for_each = toset(var.steering == "worker" ? [for host in local.hosts : host if host != var.domain] : [])

  zone_id = var.zone_id
  pattern = "${each.value}/*"
  script  = cloudflare_workers_script.this[0].script_name
}
