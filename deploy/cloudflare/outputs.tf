output "steering" {
  description = "Component that chooses the region"
  value       = var.steering
}

output "pools" {
  description = "Pools by region, with load balancing"
  value       = { for name, pool in cloudflare_load_balancer_pool.this : name => pool.id }
}
