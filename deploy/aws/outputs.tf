output "balancer" {
  description = "Address of the balancer; `fleet test https://…` asks it"
  value       = aws_lb.this.dns_name
}

output "target_groups" {
  description = "Where instances that are not in ECS register"
  value       = { for name, group in aws_lb_target_group.this : name => group.arn }
}

output "instances_security_group" {
  description = "Security group that lets the balancer in"
  value       = aws_security_group.instances.id
}
