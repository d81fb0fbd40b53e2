# One name for all regions: each copy of this module adds its own record. Route 53 stops returning it while its region
# has no ready instance.
resource "aws_route53_health_check" "this" {
  count = var.zone_id == "" ? 0 : 1

  fqdn              = local.balancer.dns_name
  type              = "HTTPS"
  port              = 443
  resource_path     = "/ready"
  request_interval  = 10
  failure_threshold = 2
  # The certificate is for the public name, not for the balancer's own address.
  enable_sni = false
}

resource "aws_route53_record" "latency" {
  count = var.zone_id != "" && var.routing == "latency" ? 1 : 0

  zone_id         = var.zone_id
  name            = var.domain
  type            = "A"
  set_identifier  = var.region
  health_check_id = aws_route53_health_check.this[0].id

  latency_routing_policy {
    region = var.region
  }

  alias {
    name                   = local.balancer.dns_name
    zone_id                = local.balancer.zone_id
    evaluate_target_health = true
  }
}

resource "aws_route53_record" "continent" {
  for_each = toset(var.zone_id != "" && var.routing == "geolocation" ? var.continents : [])

  zone_id         = var.zone_id
  name            = var.domain
  type            = "A"
  set_identifier  = "${var.region}-${each.value}"
  health_check_id = aws_route53_health_check.this[0].id

  geolocation_routing_policy {
    continent = each.value
  }

  alias {
    name                   = local.balancer.dns_name
    zone_id                = local.balancer.zone_id
    evaluate_target_health = true
  }
}

# For clients on no continent above, and for those of a region that is down: Route 53 then returns the next larger
# location, which is this one.
resource "aws_route53_record" "everywhere" {
  count = var.zone_id != "" && var.routing == "geolocation" && var.default_region ? 1 : 0

  zone_id        = var.zone_id
  name           = var.domain
  type           = "A"
  set_identifier = "${var.region}-default"

  geolocation_routing_policy {
    country = "*"
  }

  alias {
    name                   = local.balancer.dns_name
    zone_id                = local.balancer.zone_id
    evaluate_target_health = true
  }
}
