# Clients, balancer, instances: each accepts traffic only from the previous one.
resource "aws_security_group" "balancer" {
  name        = "${var.name}-balancer"
  description = "HTTP and HTTPS from any address"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "clients" {
  for_each = toset(local.is_network ? ["443"] : ["80", "443"])

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
  count = local.is_network ? 0 : 1

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

# One group for the stable version of each pool, and one for each canary.
resource "aws_lb_target_group" "this" {
  for_each = local.is_network ? {} : local.versions

  name        = local.group_names[each.key]
  vpc_id      = var.vpc_id
  target_type = "ip"
  port        = 3000
  protocol    = "HTTP"

  # Seconds until a new instance gets its full share; supported by round robin only.
  load_balancing_algorithm_type = "round_robin"
  slow_start                    = 30

  # Longer than SHUTDOWN_TIMEOUT: a deregistered instance still finishes its requests.
  deregistration_delay = local.deregistration_delay

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

locals {
  # AWS allows 32 characters.
  group_names = {
    for key in keys(local.versions) : key => (
      length("${var.name}-${key}") <= 32 ? "${var.name}-${key}" : "${substr("${var.name}-${key}", 0, 24)}-${substr(md5(key), 0, 7)}"
    )
  }

  # The balancer that is used, and the target groups of its versions.
  balancer      = one(concat(aws_lb.this, aws_lb.network))
  target_groups = { for key, group in merge(aws_lb_target_group.this, aws_lb_target_group.network) : key => group.arn }
}
