variable "region" {
  description = "AWS region of this balancer; use one copy of this module per region"
  type        = string
}

variable "name" {
  description = "Name of the fleet, and prefix of all resources; up to 20 letters, digits and -"
  type        = string
  default     = "fleet"
}

variable "vpc_id" {
  description = "VPC of the balancer and the instances"
  type        = string
}

variable "public_subnet_ids" {
  description = "Subnets of the balancer, in at least two zones"
  type        = list(string)
}

variable "private_subnet_ids" {
  description = "Subnets of the instances"
  type        = list(string)
}

variable "certificate_arn" {
  description = "ACM certificate for the name that clients use"
  type        = string
}

variable "image" {
  description = "Image of the app"
  type        = string
}

variable "canary_image" {
  description = "Image of a canary version; empty for none"
  type        = string
  default     = ""
}

variable "canary_percent" {
  description = "Share of requests for the canary"
  type        = number
  default     = 0

  validation {
    condition     = var.canary_percent >= 0 && var.canary_percent <= 100
    error_message = "canary_percent is a percentage."
  }
}

variable "pools" {
  description = <<-TEXT
    Pools besides `default`, by name, and their routes: path prefixes (/api/v2), hosts with or without a path
    (shop.example.com/api) and headers (x-version:2). Headers come first, then hosts, then paths; the longest path wins. `image`,
    `shutdown_timeout` (seconds) and the sizes are the default pool's, or small, unless set.
  TEXT
  type = map(object({
    paths            = optional(list(string), [])
    hosts            = optional(list(string), [])
    headers          = optional(list(string), [])
    image            = optional(string)
    canary_image     = optional(string, "")
    canary_percent   = optional(number, 0)
    min              = optional(number, 2)
    max              = optional(number, 10)
    cpu              = optional(number, 512)
    memory           = optional(number, 1024)
    shutdown_timeout = optional(number)
  }))
  default = {}

  validation {
    condition     = alltrue([for name in keys(var.pools) : can(regex("^[a-z][a-z0-9-]{0,31}$", name)) && name != "default"])
    error_message = "A pool is named by a letter and up to 31 more letters, digits and -, and not default."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : length(concat(pool.paths, pool.hosts, pool.headers)) > 0])
    error_message = "Each pool needs a route: paths, hosts or headers."
  }
  validation {
    condition = alltrue([
      for path in flatten(values(var.pools)[*].paths) : can(regex("^/[A-Za-z0-9_.$~'@:+&/-]{0,125}$", path)) && !strcontains(path, "//")
    ])
    error_message = "paths: prefixes that start with / and have no wildcards and no encoded characters, such as /api/v2."
  }
  validation {
    condition = alltrue([
      for host in flatten(values(var.pools)[*].hosts) :
      can(regex("^[A-Za-z0-9.-]+(/[A-Za-z0-9_.$~'@:+&/-]{0,125})?$", host)) && !strcontains(host, "//")
    ])
    error_message = "hosts: names without a port, with or without a path, such as shop.example.com/api."
  }
  validation {
    condition     = alltrue([for header in flatten(values(var.pools)[*].headers) : can(regex("^[A-Za-z0-9_-]{1,40}:[^*?\\\\]{1,128}$", header))])
    error_message = "headers: a name and a value without wildcards, such as x-version:2."
  }
  validation {
    condition = alltrue([
      for kind in [
        [for path in flatten(values(var.pools)[*].paths) : trimsuffix(path, "/")],
        [for host in flatten(values(var.pools)[*].hosts) : lower(trimsuffix(host, "/"))],
        flatten(values(var.pools)[*].headers),
      ] : length(distinct(kind)) == length(kind)
    ])
    error_message = "Two pools, or one pool twice, have the same path, host or header."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : pool.canary_percent >= 0 && pool.canary_percent <= 100])
    error_message = "canary_percent is a percentage."
  }
  validation {
    condition     = alltrue([for pool in values(var.pools) : try(pool.shutdown_timeout >= 30 && pool.shutdown_timeout <= 105, pool.shutdown_timeout == null)])
    error_message = "shutdown_timeout is 30 to 105 seconds: longer than the drain, and Fargate ends a task after 120 s."
  }
}

variable "network" {
  description = <<-TEXT
    An NLB instead of the ALB, in front of instances or proxies that terminate TLS themselves. `listener`: "tcp" passes TLS through;
    "tls" terminates it and encrypts again. `proxy_protocol`: the targets expect the PROXY protocol (version 2).
  TEXT
  type        = object({ listener = string, proxy_protocol = optional(bool, false) })
  default     = null

  validation {
    condition     = contains(["tcp", "tls"], try(var.network.listener, "tcp"))
    error_message = "network.listener is tcp or tls."
  }
}

variable "instances" {
  description = "Minimum and maximum number of instances of the default pool"
  type        = object({ min = number, max = number })
  default     = { min = 3, max = 20 }
}

variable "secrets" {
  description = "Map of environment variables to the ARNs of their values: SESSION_SECRET, JWT_SECRET, FLEET_ADMIN_TOKEN, REDIS_URL, DATABASE_URL"
  type        = map(string)
}

variable "sticky" {
  description = "Keep a client on its instance by a cookie; not needed by a fleet that keeps its state in Redis"
  type        = bool
  default     = false
}

variable "requests_per_client" {
  description = "Requests per address in five minutes, beyond which they are rejected"
  type        = number
  default     = 10000
}

variable "log_bucket" {
  description = "S3 bucket for access logs, with write access for the balancer; empty for no logs"
  type        = string
  default     = ""
}

variable "zone_id" {
  description = "Route 53 zone of `domain`; empty for no records"
  type        = string
  default     = ""
}

variable "domain" {
  description = "Name that clients use"
  type        = string
}

variable "routing" {
  description = "How Route 53 chooses among regions: latency or geolocation"
  type        = string
  default     = "latency"

  validation {
    condition     = contains(["latency", "geolocation"], var.routing)
    error_message = "routing is latency or geolocation."
  }
}

variable "continents" {
  description = "With geolocation: continents that this region serves (EU, NA, …)"
  type        = list(string)
  default     = []
}

variable "default_region" {
  description = "With geolocation: whether this region serves all other clients, and those of a region that is down"
  type        = bool
  default     = false
}
