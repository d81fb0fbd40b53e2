/** What a policy knows about a replica. */
interface Candidate {
  readonly inFlight: number
  readonly latencyMs: number
}

/** Chooses one of the healthy replicas; `undefined` of an empty list. */
export type Pick = <R extends Candidate>(replicas: readonly R[]) => R | undefined

function roundRobin(): Pick {
  let next = 0
  return (replicas) => replicas[next++ % Math.max(1, replicas.length)]
}

/** The replica with the least cost. The search starts at the next index each time, so that ties alternate. */
function least(cost: (replica: Candidate) => number): Pick {
  let next = 0
  return (replicas) => {
    const { length } = replicas
    const start = next++
    let best = replicas[start % Math.max(1, length)]
    for (let i = 1; i < length; i++) {
      const replica = replicas[(start + i) % length]
      if (replica && best && cost(replica) < cost(best)) best = replica
    }
    return best
  }
}

/** Factories, because each policy has state. Scanning all replicas is cheap, because there are few. */
export const policies = {
  'round-robin': roundRobin,
  'least-in-flight': () => least(({ inFlight }) => inFlight),
  /** Expected time of the next read: Peak EWMA as in Finagle, without its peak. */
  latency: () => least(({ inFlight, latencyMs }) => (latencyMs + 0.1) * (inFlight + 1)),
} satisfies Record<string, () => Pick>

export type ReplicaPolicyName = keyof typeof policies
export const replicaPolicyNames: readonly ReplicaPolicyName[] = Object.keys(policies) as ReplicaPolicyName[]
