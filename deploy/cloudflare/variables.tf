variable "account_id" {
  description = "Cloudflare account"
  type        = string
}

variable "zone_id" {
  description = "Zone of `domain`"
  type        = string
}

variable "domain" {
  description = "Name that clients use"
  type        = string
}

variable "name" {
  description = "Name of the fleet, and prefix of all resources"
  type        = string
  default     = "fleet"
}

variable "regions" {
  description = <<-TEXT
    Regions by name: the name of each one's own front, where it is, and the areas of Cloudflare whose clients go there first
    (WNAM, ENAM, WEU, EEU, NSAM, SSAM, OC, ME, NAF, SAF, SAS, SEAS, NEAS). The first in the alphabet takes everybody else.
  TEXT
  type = map(object({
    address   = string
    latitude  = number
    longitude = number
    areas     = list(string)
  }))
}

variable "pools" {
  description = <<-TEXT
    Pools besides `default`, whose regions are `regions`: by pool, the name of each region's front for it. With
    steering = "worker".
  TEXT
  type        = map(map(string))
  default     = {}

  validation {
    condition     = alltrue([for pool in keys(var.pools) : can(regex("^[a-z][a-z0-9-]{0,31}$", pool)) && pool != "default"])
    error_message = "A pool is named by a letter and up to 31 more letters, digits and -, and not default."
  }
}

variable "routes" {
  description = <<-TEXT
    Which requests belong to which pool: MATCH=POOL, separated by spaces, commas or newlines. MATCH is a path prefix (/api/v2),
    a host with or without a path (//shop.example.com/api), or a header (x-version:2).
  TEXT
  type        = string
  default     = ""
}

variable "countries" {
  description = "Countries (ISO 3166-1, two letters) bound to a region regardless of distance, for data that must stay there"
  type        = map(string)
  default     = {}
}

variable "steering" {
  description = "load-balancer: Cloudflare's load balancing, a paid addition; worker: a Worker instead, available on every plan"
  type        = string
  default     = "load-balancer"

  validation {
    condition     = contains(["load-balancer", "worker"], var.steering)
    error_message = "steering is load-balancer or worker."
  }
}
