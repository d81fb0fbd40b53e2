locals {
  balanced = var.steering == "load-balancer" ? var.regions : {}
  names    = sort(keys(var.regions))
  areas    = distinct(flatten([for region in values(var.regions) : region.areas]))
}

# Checks each region's front from outside. /ready, because a region without a ready instance must get no requests.
resource "cloudflare_load_balancer_monitor" "this" {
  count = var.steering == "load-balancer" ? 1 : 0

  account_id       = var.account_id
  description      = "${var.name}: has a ready instance"
  type             = "https"
  method           = "GET"
  path             = "/ready"
  port             = 443
  expected_codes   = "200"
  follow_redirects = false
  allow_insecure   = false
  # Shorter intervals require a larger Cloudflare plan.
  interval         = 60
  timeout          = 5
  retries          = 2
  consecutive_down = 1
  consecutive_up   = 1

  header = {
    Host = [var.domain]
  }
}

resource "cloudflare_load_balancer_pool" "this" {
  for_each = local.balanced

  account_id      = var.account_id
  name            = "${var.name}-${each.key}"
  monitor         = cloudflare_load_balancer_monitor.this[0].id
  latitude        = each.value.latitude
  longitude       = each.value.longitude
  minimum_origins = 1

  origins = [
    {
      name    = each.key
      address = each.value.address
      enabled = true
      header = {
        host = [var.domain]
      }
    },
  ]
}

resource "cloudflare_load_balancer" "this" {
  count = var.steering == "load-balancer" ? 1 : 0

  zone_id         = var.zone_id
  name            = var.domain
  proxied         = true
  steering_policy = "geo"

  lifecycle {
    precondition {
      condition     = var.routes == "" && length(var.pools) == 0
      error_message = "`pools` and `routes` need steering = \"worker\"."
    }
  }

  default_pools = [for name in local.names : cloudflare_load_balancer_pool.this[name].id]
  fallback_pool = cloudflare_load_balancer_pool.this[local.names[0]].id

  # The area's own region first, then the others as fail-over.
  region_pools = {
    for area in local.areas : area => concat(
      [for name in local.names : cloudflare_load_balancer_pool.this[name].id if contains(var.regions[name].areas, area)],
      [for name in local.names : cloudflare_load_balancer_pool.this[name].id if !contains(var.regions[name].areas, area)],
    )
  }

  country_pools = {
    for country, name in var.countries : country => [cloudflare_load_balancer_pool.this[name].id]
  }

  # Sessions are in Redis: a client may use any region.
  session_affinity = "none"

  # A request whose region fails meanwhile goes to the next one.
  adaptive_routing = {
    failover_across_pools = true
  }
}
