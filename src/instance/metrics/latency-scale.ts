// The buckets in which response times are counted. Bucket i counts those up to 0.1 ms × 1.15^i, five per octave; the last one
// counts all above 60 s. HdrHistogram and DDSketch bound the relative error the same way (Masson et al., VLDB 2019), and so
// do the native histograms of Prometheus. Buckets of several instances can be added, unlike their percentiles. Instances of
// all versions write these indexes to Redis (src/state/history), so the scale must not change.

const base = 0.1
const growth = Math.log(1.15)
export const bucketCount: number = Math.ceil(Math.log(60_000 / base) / growth) + 1

export const bucketOf = (ms: number): number =>
  ms <= base ? 0 : Math.min(bucketCount - 1, Math.ceil(Math.log(ms / base) / growth))
const upperBound = (bucket: number): number => base * Math.exp(growth * bucket)

/**
 * The upper bound of the bucket below which `share` of the requests are, in ms; at most 15 % above the true value.
 *
 * @param requests sum of `counts`, above 0
 */
export function percentile(counts: Uint32Array | Float64Array, requests: number, share: number): number {
  let remaining = Math.ceil(requests * share)
  let bucket = 0
  while (bucket < counts.length - 1) {
    remaining -= counts[bucket] as number
    if (remaining <= 0) break
    bucket++
  }
  return Math.round(upperBound(bucket) * 10) / 10
}
