resource "aws_lb_listener" "http" {
  load_balancer_arn = aws_lb.this.arn
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

locals {
  # No requests go to a group without instances.
  canary_weight = var.canary_image == "" ? 0 : var.canary_percent
}

resource "aws_lb_listener" "https" {
  load_balancer_arn = aws_lb.this.arn
  port              = 443
  protocol          = "HTTPS"
  certificate_arn   = var.certificate_arn
  # TLS 1.2 with forward secrecy, and TLS 1.3.
  ssl_policy = "ELBSecurityPolicy-TLS13-1-2-2021-06"

  default_action {
    type = "forward"
    forward {
      target_group {
        arn    = aws_lb_target_group.this["stable"].arn
        weight = 100 - local.canary_weight
      }
      target_group {
        arn    = aws_lb_target_group.this["canary"].arn
        weight = local.canary_weight
      }
    }
  }
}

# A second version of the API, served by the canary only.
resource "aws_lb_listener_rule" "api_v2" {
  count = var.canary_image == "" ? 0 : 1

  listener_arn = aws_lb_listener.https.arn
  priority     = 20

  condition {
    path_pattern {
      values = ["/api/v2/*"]
    }
  }

  action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.this["canary"].arn
  }
}
