terraform {
  required_version = ">= 1.5"
  required_providers {
    cloudflare = {
      source  = "cloudflare/cloudflare"
      version = "~> 5.14"
    }
  }
}

# CLOUDFLARE_API_TOKEN needs edit access to Load Balancing, Workers Scripts and Workers Routes of this account and zone.
provider "cloudflare" {}
