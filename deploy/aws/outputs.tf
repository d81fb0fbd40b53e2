output "balancer" {
  description = "Address of the balancer, for `fleet test https://…`"
  value       = local.balancer.dns_name
}

output "target_groups" {
  description = "Target groups by version, for instances outside ECS"
  value       = local.target_groups
}

output "instances_security_group" {
  description = "Security group that admits the balancer"
  value       = aws_security_group.instances.id
}
