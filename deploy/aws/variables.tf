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

variable "instances" {
  description = "Minimum and maximum number of instances"
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
