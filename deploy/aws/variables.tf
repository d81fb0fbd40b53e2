variable "region" {
  description = "AWS region of this balancer; one more copy of this module per region"
  type        = string
}

variable "name" {
  description = "Name of the fleet, and prefix of what is made here; up to 20 letters, digits and -"
  type        = string
  default     = "fleet"
}

variable "vpc_id" {
  description = "VPC of balancer and instances"
  type        = string
}

variable "public_subnet_ids" {
  description = "Subnets of the balancer, in two zones at least"
  type        = list(string)
}

variable "private_subnet_ids" {
  description = "Subnets of the instances"
  type        = list(string)
}

variable "certificate_arn" {
  description = "Certificate (ACM) of the name that clients use"
  type        = string
}

variable "image" {
  description = "Image of the app"
  type        = string
}

variable "canary_image" {
  description = "Image of a new version; empty: none"
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
  description = "Fewest and most instances"
  type        = object({ min = number, max = number })
  default     = { min = 3, max = 20 }
}

variable "secrets" {
  description = "Environment variable to the ARN that holds its value: SESSION_SECRET, JWT_SECRET, FLEET_ADMIN_TOKEN, REDIS_URL, DATABASE_URL"
  type        = map(string)
}

variable "sticky" {
  description = "Keep a client on its instance by a cookie; a fleet that keeps its state in Redis needs none"
  type        = bool
  default     = false
}

variable "requests_per_client" {
  description = "Requests of one address in five minutes, before it is refused"
  type        = number
  default     = 10000
}

variable "log_bucket" {
  description = "S3 bucket for access logs, which lets the balancer write; empty: no logs"
  type        = string
  default     = ""
}

variable "zone_id" {
  description = "Route 53 zone of `domain`; empty: no records"
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
  description = "With geolocation: continents this region answers for (EU, NA, …)"
  type        = list(string)
  default     = []
}

variable "default_region" {
  description = "With geolocation: whether this region answers for everybody else, and for a region that is down"
  type        = bool
  default     = false
}
