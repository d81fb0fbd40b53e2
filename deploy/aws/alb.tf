# Clients, balancer, instances: each accepts traffic only from the previous one.
resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "HTTP and HTTPS from any address"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(["80", "443"])

  security_group_id = aws_security_group.balancer.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "tcp"
  from_port         = tonumber(each.value)
  to_port           = tonumber(each.value)
}

resource "aws_vpc_security_group_egress_rule" "to_instances" {
  security_group_id            = aws_security_group.balancer.id
  referenced_security_group_id = aws_security_group.instances.id
  ip_protocol                  = "tcp"
  from_port                    = 3000
  to_port                      = 3000
}

resource "aws_security_group" "instances" {
  name        = "${var.name}-instances"
  description = "The port of the app, from the balancer"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "from_balancer" {
  security_group_id            = aws_security_group.instances.id
  referenced_security_group_id = aws_security_group.balancer.id
  ip_protocol                  = "tcp"
  from_port                    = 3000
  to_port                      = 3000
}

resource "aws_vpc_security_group_egress_rule" "from_instances" {
  security_group_id = aws_security_group.instances.id
  cidr_ipv4         = "0.0.0.0/0"
  ip_protocol       = "-1"
}

resource "aws_lb" "this" {
  name               = var.name
  load_balancer_type = "application"
  security_groups    = [aws_security_group.balancer.id]
  subnets            = var.public_subnet_ids

  # Shorter than the instances' 72 s: the sender must be the side that closes.
  idle_timeout = 60

  # Drop headers that Node would reject, or parse differently.
  drop_invalid_header_fields = true
  desync_mitigation_mode     = "defensive"
  enable_deletion_protection = true

  dynamic "access_logs" {
    for_each = var.log_bucket == "" ? [] : [var.log_bucket]
    content {
      bucket  = access_logs.value
      prefix  = var.name
      enabled = true
    }
  }
}

# One group for the stable version, one for the canary.
resource "aws_lb_target_group" "this" {
  for_each = toset(["stable", "canary"])

  name        = "${var.name}-${each.value}"
  vpc_id      = var.vpc_id
  target_type = "ip"
  port        = 3000
  protocol    = "HTTP"

  # Seconds until a new instance gets its full share; supported by round robin only.
  load_balancing_algorithm_type = "round_robin"
  slow_start                    = 30

  # Longer than SHUTDOWN_TIMEOUT: a deregistered instance still finishes its requests.
  deregistration_delay = 60

  # interval × unhealthy_threshold + timeout is shorter than DRAIN_DELAY, so that an instance that drains by itself is
  # out of rotation before it stops listening.
  health_check {
    path                = "/ready"
    matcher             = "200"
    interval            = 5
    timeout             = 3
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  stickiness {
    type            = "lb_cookie"
    enabled         = var.sticky
    cookie_duration = 86400
  }

  lifecycle {
    create_before_destroy = true
  }
}
