# An example of instances behind the balancer. Instances elsewhere (EC2, EKS) register with the same target group.
resource "aws_ecs_cluster" "this" {
  name = var.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }
}

resource "aws_cloudwatch_log_group" "this" {
  name              = "/ecs/${var.name}"
  retention_in_days = 30
}

data "aws_iam_policy_document" "tasks" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "execution" {
  name               = "${var.name}-execution"
  assume_role_policy = data.aws_iam_policy_document.tasks.json
}

resource "aws_iam_role_policy_attachment" "execution" {
  role       = aws_iam_role.execution.name
  policy_arn = "arn:aws:iam::aws:policy/service-role/AmazonECSTaskExecutionRolePolicy"
}

data "aws_iam_policy_document" "secrets" {
  statement {
    actions   = ["secretsmanager:GetSecretValue"]
    resources = values(var.secrets)
  }
}

resource "aws_iam_role_policy" "secrets" {
  name   = "secrets"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.secrets.json
}

resource "aws_ecs_task_definition" "this" {
  for_each = local.versions

  family                   = "${var.name}-${each.key}"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = each.value.cpu
  memory                   = each.value.memory
  execution_role_arn       = aws_iam_role.execution.arn

  container_definitions = jsonencode([
    {
      name      = "app"
      image     = each.value.image
      essential = true
      # From SIGTERM to SIGKILL: longer than SHUTDOWN_TIMEOUT. Fargate allows at most 120 s.
      stopTimeout            = each.value.shutdown + 15
      user                   = "1000:1000"
      readonlyRootFilesystem = true
      portMappings           = [{ containerPort = 3000, protocol = "tcp" }]
      environment = [
        { name = "NODE_ENV", value = "production" },
        { name = "HOST", value = "0.0.0.0" },
        { name = "PORT", value = "3000" },
        # Metrics and operators' endpoints, on a port that no security group opens: reached by `aws ecs
        # execute-command`, or by a scraper that you allow. Readiness stays on the port that the balancer sends requests
        # to, and checks.
        { name = "FLEET_ADMIN_PORT", value = "3100" },
        { name = "FLEET_ADMIN_HOST", value = "0.0.0.0" },
        { name = "FLEET_PUBLIC_PROBES", value = "on" },
        { name = "FLEET_NAME", value = var.name },
        { name = "FLEET_REGION", value = var.region },
        { name = "FLEET_POOL", value = each.value.pool },
        { name = "FLEET_COLOR", value = each.value.color },
        # Only the balancer can reach an instance (its security group). An ALB appends the client's address; an NLB
        # forwards the client's own connection.
        { name = "TRUST_PROXY", value = local.is_network ? "false" : "uniquelocal" },
        { name = "DRAIN_DELAY", value = tostring(local.budget.drain * 1000) },
        { name = "SHUTDOWN_TIMEOUT", value = tostring(each.value.shutdown * 1000) },
      ]
      secrets = [for name, arn in var.secrets : { name = name, valueFrom = arn }]
      logConfiguration = {
        logDriver = "awslogs"
        options = {
          awslogs-group         = aws_cloudwatch_log_group.this.name
          awslogs-region        = var.region
          awslogs-stream-prefix = each.key
        }
      }
    },
  ])
}

resource "aws_ecs_service" "this" {
  for_each = local.versions

  name            = each.key
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.this[each.key].arn
  launch_type     = "FARGATE"
  desired_count   = each.value.color == "stable" ? each.value.min : 1

  # Capacity never falls below the current number; a build that does not become ready is rolled back.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200
  health_check_grace_period_seconds  = 60
  wait_for_steady_state              = true

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets         = var.private_subnet_ids
    security_groups = [aws_security_group.instances.id]
  }

  load_balancer {
    target_group_arn = local.target_groups[each.key]
    container_name   = "app"
    container_port   = 3000
  }

  # The autoscaler sets the count.
  lifecycle {
    ignore_changes = [desired_count]
  }

  depends_on = [aws_lb_listener.https, aws_lb_listener.network, aws_lb_listener_rule.pool]
}

resource "aws_appautoscaling_target" "this" {
  for_each = { for key, version in local.versions : key => version if version.color == "stable" }

  service_namespace  = "ecs"
  scalable_dimension = "ecs:service:DesiredCount"
  resource_id        = "service/${aws_ecs_cluster.this.name}/${aws_ecs_service.this[each.key].name}"
  min_capacity       = each.value.min
  max_capacity       = each.value.max
}

resource "aws_appautoscaling_policy" "cpu" {
  for_each = aws_appautoscaling_target.this

  name               = "${local.group_names[each.key]}-cpu"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = each.value.service_namespace
  scalable_dimension = each.value.scalable_dimension
  resource_id        = each.value.resource_id

  target_tracking_scaling_policy_configuration {
    target_value       = 60
    scale_in_cooldown  = 300
    scale_out_cooldown = 30

    predefined_metric_specification {
      predefined_metric_type = "ECSServiceAverageCPUUtilization"
    }
  }
}

# Addresses of an earlier version of this module.
moved {
  from = aws_appautoscaling_target.this
  to   = aws_appautoscaling_target.this["stable"]
}

moved {
  from = aws_appautoscaling_policy.cpu
  to   = aws_appautoscaling_policy.cpu["stable"]
}
