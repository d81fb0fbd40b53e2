# Which versions run, and which requests go to which pool. Only values, no resources.
locals {
  is_network = var.network != null

  # Seconds. `drain` is longer than the time until the balancer notices it, and `shutdown` contains the drain. The other
  # timeouts follow from `shutdown`. docs/timeouts.md
  budget = local.is_network ? local.budgets.network : local.budgets.application
  budgets = {
    application = { drain = 15, shutdown = 45 }
    # All nodes of an NLB learn of a target's state one after the other, and clients keep their connections to an instance.
    network = { drain = 30, shutdown = 60 }
  }

  pools = merge(
    {
      default = {
        image          = var.image
        canary_image   = var.canary_image
        canary_percent = var.canary_percent
        min            = var.instances.min
        max            = var.instances.max
        cpu            = 512
        memory         = 1024
        shutdown       = local.budget.shutdown
      }
    },
    {
      for name, pool in var.pools : name => {
        image          = coalesce(pool.image, var.image)
        canary_image   = pool.canary_image
        canary_percent = pool.canary_percent
        min            = pool.min
        max            = pool.max
        cpu            = pool.cpu
        memory         = pool.memory
        shutdown       = coalesce(pool.shutdown_timeout, local.budget.shutdown)
      }
    },
  )

  # ECS sends SIGTERM only after the delay, so one delay for all versions, for the slowest one.
  deregistration_delay = max([for pool in local.pools : pool.shutdown]...) + 15

  # One target group and one ECS service each: the stable version of every pool, and the canary of those that have one.
  stable = { for name in keys(local.pools) : name => name == "default" ? "stable" : "${name}-stable" }
  canary = { for name, pool in local.pools : name => name == "default" ? "canary" : "${name}-canary" if pool.canary_image != "" }
  versions = merge(
    { for name, key in local.stable : key => merge(local.pools[name], { pool = name, color = "stable" }) },
    {
      for name, key in local.canary : key =>
      merge(local.pools[name], { pool = name, color = "canary", image = local.pools[name].canary_image })
    },
  )

  # The weights of a pool's target groups.
  shares = {
    for name, pool in local.pools : name => merge(
      { (local.stable[name]) = contains(keys(local.canary), name) ? 100 - pool.canary_percent : 100 },
      { for key in [lookup(local.canary, name, "")] : key => pool.canary_percent if key != "" },
    )
  }

  # Routes by kind, each `{ match, pool, host, path }`. The path has no slash at its end.
  headers = flatten([
    for pool in keys(var.pools) : [for match in var.pools[pool].headers : { match = match, pool = pool }]
  ])
  hosts = flatten([
    for pool in keys(var.pools) : [
      for match in var.pools[pool].hosts : {
        match = "//${match}"
        pool  = pool
        host  = regex("^[^/]+", match)
        path  = trimsuffix(regex("[^/]*(.*)$", match)[0], "/")
      }
    ]
  ])
  paths = flatten([
    for pool in keys(var.pools) : [
      for match in var.pools[pool].paths : { match = match, pool = pool, host = "", path = trimsuffix(match, "/") }
    ]
  ])

  # Headers first, in their order, then hosts, then paths. A longer path has a smaller priority. A new route changes the
  # priority of another one only if both are of one kind and length, so that two rules rarely trade places.
  by_length = { for route in concat(local.hosts, local.paths) : "${route.host == "" ? 25000 : 10000} ${length(route.path)}" => route... }
  rules = merge(
    {
      for index, route in local.headers : route.match => {
        pool     = route.pool
        priority = 100 + index
        header   = [regex("^([^:]+):(.*)$", route.match)]
        hosts    = []
        paths    = []
      }
    },
    merge([
      for key, routes in local.by_length : {
        for index, route in routes : route.match => {
          pool     = route.pool
          priority = tonumber(split(" ", key)[0]) + (128 - length(route.path)) * 100 + index
          header   = []
          hosts    = route.host == "" ? [] : [route.host]
          paths    = route.path == "" ? (route.host == "" ? ["/*"] : []) : [route.path, "${route.path}/*"]
        }
      }
    ]...),
  )

  # A listener rule compares the path as it was written. For each path of a route: what it looks like decoded and in lower
  # case, in every spelling that an instance could route to it, and as it is written.
  spellings = {
    for path in distinct(compact(concat(local.hosts[*].path, local.paths[*].path))) : path => {
      any = join("", [
        "^",
        join("(;[^/\\\\]*)?", [for segment in compact(split("/", lower(path))) : "[/\\\\]+${replace(segment, "/[^a-z0-9_-]/", "[$0]")}"]),
        "([;/\\\\]|$)",
      ])
      written = "^${replace(path, "/[^a-zA-Z0-9_\\/-]/", "[$0]")}(/|$)"
    }
  }
}
