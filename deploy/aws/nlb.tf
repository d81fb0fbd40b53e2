# With `network`: an NLB, which forwards connections, not requests. It adds no header, so its targets terminate TLS
# themselves: the app with Fastify's option `https`, or nginx or HAProxy in front of it. It has no path rules, so it knows no
# pools and no canary; a proxy behind it does.
resource "aws_lb" "network" {
  count = local.is_network ? 1 : 0

  name               = var.name
  load_balancer_type = "network"
  security_groups    = [aws_security_group.balancer.id]
  subnets            = var.public_subnet_ids

  # Otherwise a zone whose instances drain has no target.
  enable_cross_zone_load_balancing = true
  enable_deletion_protection       = true

  lifecycle {
    precondition {
      condition     = length(var.pools) == 0 && var.canary_image == ""
      error_message = "An NLB has no rules and no weights: with `network`, leave `pools` and `canary_image` out and put a proxy behind it."
    }
  }
}

resource "aws_lb_target_group" "network" {
  for_each = local.is_network ? local.versions : {}

  name        = local.group_names[each.key]
  vpc_id      = var.vpc_id
  target_type = "ip"
  port        = 3000
  protocol    = upper(var.network.listener)

  # The instance sees the client's own address, and no proxy names another one (TRUST_PROXY=false). With the PROXY protocol
  # the address is in its header, and the connection comes from the balancer.
  preserve_client_ip = !var.network.proxy_protocol
  proxy_protocol_v2  = var.network.proxy_protocol

  # After the delay, connections stay open: SIGTERM comes then, and each response closes its connection.
  deregistration_delay   = local.deregistration_delay
  connection_termination = false

  # interval × unhealthy_threshold + timeout, and some seconds until every node of the balancer knows, is shorter than
  # DRAIN_DELAY. The certificate is not verified.
  health_check {
    protocol            = "HTTPS"
    path                = "/ready"
    matcher             = "200"
    interval            = 5
    timeout             = 3
    healthy_threshold   = 2
    unhealthy_threshold = 2
  }

  # An unhealthy target gets no new connection; those that it has stay, so that a drain finishes its requests.
  target_health_state {
    enable_unhealthy_connection_termination = false
  }

  stickiness {
    type    = "source_ip"
    enabled = var.sticky
  }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_lb_listener" "network" {
  count = local.is_network ? 1 : 0

  load_balancer_arn = aws_lb.network[0].arn
  port              = 443
  protocol          = upper(var.network.listener)
  certificate_arn   = var.network.listener == "tls" ? var.certificate_arn : null
  ssl_policy        = var.network.listener == "tls" ? "ELBSecurityPolicy-TLS13-1-2-2021-06" : null

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.network["stable"].arn
  }
}
