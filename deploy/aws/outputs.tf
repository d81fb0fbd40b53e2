output "balancer" {
  description = "Address of the balancer, for `fleet test https://…`"
  value       = aws_lb.this.dns_name
}

output "target_groups" {
  description = "Target group for instances outside ECS"
  value       = { for name, group in aws_lb_target_group.this : name => group.arn }
}

output "instances_security_group" {
  description = "Security group that admits the balancer"
  value       = aws_security_group.instances.id
}
