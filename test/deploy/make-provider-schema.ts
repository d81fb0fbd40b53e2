// Generates provider-schema.txt from the bindings that HashiCorp generated from the providers' schemas. If Terraform's
// registry is reachable, `terraform validate` checks the same and more. Run in an empty folder:
//
//   npm pack @cdktf/provider-aws@21 @cdktf/provider-cloudflare@13 && for f in *.tgz; do tar xzf "$f"; done
//   node make-provider-schema.ts package/lib > provider-schema.txt
//
// A line is a path: `aws_lb.access_logs.bucket required`; `computed` marks read-only attributes.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Only the resources of deploy/. */
const wanted = new Set(
  [
    ...'lb lb-listener lb-listener-rule lb-target-group security-group vpc-security-group-ingress-rule'.split(' '),
  ].concat(
    'vpc-security-group-egress-rule wafv2-web-acl wafv2-web-acl-association ecs-cluster ecs-service ecs-task-definition'.split(
      ' ',
    ),
    'cloudwatch-log-group iam-role iam-role-policy iam-role-policy-attachment data-aws-iam-policy-document'.split(' '),
    'appautoscaling-target appautoscaling-policy route53-health-check route53-record'.split(' '),
    'load-balancer load-balancer-monitor load-balancer-pool workers-script workers-route'.split(' '),
  ),
)

interface Member {
  readonly name: string
  readonly required: boolean
  readonly type: string
}

function interfaces(text: string): Map<string, Member[]> {
  const found = new Map<string, Member[]>()
  for (const [, name = '', body = ''] of text.matchAll(/export interface (\w+)[^{]*\{\n([\s\S]*?)\n\}/g)) {
    const members = [...body.matchAll(/\{@link \S+#(\w+) [^}]*\}[\s\S]*?readonly \w+(\??): ([^;]+);/g)]
    found.set(
      name,
      members.map(([, own = '', optional, type = '']) => ({ name: own, required: optional === '', type })),
    )
  }
  return found
}

const snake = (name: string): string => name.replaceAll(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)

const lines: string[] = []
const [folder = 'package/lib'] = process.argv.slice(2)
for (const entry of readdirSync(folder).filter((name) => wanted.has(name))) {
  const text = readFileSync(join(folder, entry, 'index.d.ts'), 'utf8')
  const resource = /tfResourceType = "(\w+)"/.exec(text)?.[1]
  const config = [...interfaces(text)].find(
    ([name]) => /Config[A-Z]?$/.test(name) && text.includes(`${name} extends cdktf.TerraformMetaArguments`),
  )
  if (!resource || !config) continue
  const all = interfaces(text)
  const list = (path: string, members: readonly Member[], depth: number): void => {
    for (const { name, required, type } of members) {
      lines.push(`${path}.${name}${required ? ' required' : ''}`)
      const nested = all.get(/^\w+/.exec(type)?.[0] ?? '')
      if (nested && depth < 6) list(`${path}.${name}`, nested, depth + 1)
    }
  }
  list(resource, config[1], 0)
  // Attributes of the resource's own class.
  const own = text.slice(text.lastIndexOf('tfResourceType'))
  const inputs = new Set(config[1].map(({ name }) => name))
  for (const [, getter = ''] of own.matchAll(/\n {4}get (\w+)\(\)/g)) {
    const name = snake(getter)
    if (!inputs.has(name) && !getter.endsWith('Input')) lines.push(`${resource}.${name} computed`)
  }
}
process.stdout.write(`${[...new Set(lines)].sort().join('\n')}\n`)
