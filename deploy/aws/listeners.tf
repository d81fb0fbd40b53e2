resource "aws_lb_listener" "http" {
  count = local.is_network ? 0 : 1

  load_balancer_arn = aws_lb.this[0].arn
  port              = 80
  protocol          = "HTTP"

  default_action {
    type = "redirect"
    redirect {
      port        = "443"
      protocol    = "HTTPS"
      status_code = "HTTP_301"
    }
  }
}

resource "aws_lb_listener" "https" {
  count = local.is_network ? 0 : 1

  load_balancer_arn = aws_lb.this[0].arn
  port              = 443
  protocol          = "HTTPS"
  certificate_arn   = var.certificate_arn
  # TLS 1.2 with forward secrecy, and TLS 1.3.
  ssl_policy = "ELBSecurityPolicy-TLS13-1-2-2021-06"

  default_action {
    type = "forward"
    forward {
      dynamic "target_group" {
        for_each = local.shares.default
        content {
          arn    = aws_lb_target_group.this[target_group.key].arn
          weight = target_group.value
        }
      }
    }
  }
}

# One rule per route. A request that no rule matches belongs to the default pool.
resource "aws_lb_listener_rule" "pool" {
  for_each = local.is_network ? {} : local.rules

  listener_arn = aws_lb_listener.https[0].arn
  priority     = each.value.priority

  dynamic "condition" {
    for_each = each.value.header
    content {
      http_header {
        http_header_name = condition.value[0]
        values           = [condition.value[1]]
      }
    }
  }

  dynamic "condition" {
    for_each = length(each.value.hosts) == 0 ? [] : [each.value.hosts]
    content {
      host_header {
        values = condition.value
      }
    }
  }

  dynamic "condition" {
    for_each = length(each.value.paths) == 0 ? [] : [each.value.paths]
    content {
      path_pattern {
        values = condition.value
      }
    }
  }

  action {
    type = "forward"
    forward {
      dynamic "target_group" {
        for_each = local.shares[each.value.pool]
        content {
          arn    = aws_lb_target_group.this[target_group.key].arn
          weight = target_group.value
        }
      }
    }
  }
}
