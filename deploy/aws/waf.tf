locals {
  # Operators use an instance directly. An instance responds 404 to requests through a load balancer; this rule does
  # too, for every spelling that an instance could route to an operators' path: decoded, in any case, with any number of
  # slashes, and up to a `;`. It also rejects every path with a dot segment, which some applications resolve and others
  # do not; clients resolve it before they send a request. A listener rule would compare the undecoded path.
  operators = join("|", [
    "[/\\\\][.][.]?([;/\\\\]|$)",
    "^[/\\\\]+(metrics|fleet|health(;[^/\\\\]*)?[/\\\\]+detailed|api(;[^/\\\\]*)?[/\\\\]+v1(;[^/\\\\]*)?[/\\\\]+load-balancer)([;/\\\\]|$)",
  ])
}

# Rejects a flood from one address before it reaches an instance. The app has limits per user.
resource "aws_wafv2_web_acl" "this" {
  count = local.is_network ? 0 : 1

  name  = var.name
  scope = "REGIONAL"

  default_action {
    allow {}
  }

  rule {
    name     = "operators"
    priority = 0

    action {
      block {
        custom_response {
          response_code = 404
        }
      }
    }

    statement {
      regex_match_statement {
        regex_string = local.operators

        field_to_match {
          uri_path {}
        }

        text_transformation {
          priority = 0
          type     = "URL_DECODE"
        }

        text_transformation {
          priority = 1
          type     = "LOWERCASE"
        }
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${var.name}-operators"
      sampled_requests_enabled   = true
    }
  }

  rule {
    name     = "rate"
    priority = 1

    action {
      block {
        custom_response {
          response_code = 429
        }
      }
    }

    statement {
      rate_based_statement {
        limit              = var.requests_per_client
        aggregate_key_type = "IP"
      }
    }

    visibility_config {
      cloudwatch_metrics_enabled = true
      metric_name                = "${var.name}-rate"
      sampled_requests_enabled   = true
    }
  }

  # A path of a route in another spelling (/%61pi/v2, //api/v2) would go to another pool: 404.
  dynamic "rule" {
    for_each = local.spellings
    content {
      name     = "spelling-${substr(md5(rule.key), 0, 7)}"
      priority = 10 + index(keys(local.spellings), rule.key)

      action {
        block {
          custom_response {
            response_code = 404
          }
        }
      }

      statement {
        and_statement {
          statement {
            regex_match_statement {
              regex_string = rule.value.any

              field_to_match {
                uri_path {}
              }

              text_transformation {
                priority = 0
                type     = "URL_DECODE"
              }

              text_transformation {
                priority = 1
                type     = "LOWERCASE"
              }
            }
          }

          statement {
            not_statement {
              statement {
                regex_match_statement {
                  regex_string = rule.value.written

                  field_to_match {
                    uri_path {}
                  }

                  text_transformation {
                    priority = 0
                    type     = "NONE"
                  }
                }
              }
            }
          }
        }
      }

      visibility_config {
        cloudwatch_metrics_enabled = true
        metric_name                = "${var.name}-spelling"
        sampled_requests_enabled   = true
      }
    }
  }

  visibility_config {
    cloudwatch_metrics_enabled = true
    metric_name                = var.name
    sampled_requests_enabled   = true
  }
}

resource "aws_wafv2_web_acl_association" "this" {
  count = local.is_network ? 0 : 1

  resource_arn = aws_lb.this[0].arn
  web_acl_arn  = aws_wafv2_web_acl.this[0].arn
}
