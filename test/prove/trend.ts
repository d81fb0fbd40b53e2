/** A slope with its 95 % confidence interval, per hour. */
export interface Trend {
  readonly slope: number
  readonly low: number
  readonly high: number
}

/**
 * The median of the slopes between all pairs of samples, which outliers do not move (Theil 1950), and the interval of Sen, "Estimates of
 * the regression coefficient based on Kendall's tau" (1968).
 *
 * @param at when each sample was taken, ms
 */
export function trend(at: readonly number[], values: readonly number[]): Trend {
  const slopes: number[] = []
  for (let i = 0; i < at.length; i++)
    for (let j = i + 1; j < at.length; j++) {
      const hours = ((at[j] as number) - (at[i] as number)) / 3_600_000
      slopes.push(((values[j] as number) - (values[i] as number)) / hours)
    }
  const sorted = Float64Array.from(slopes).sort()
  const n = at.length
  const width = 1.96 * Math.sqrt((n * (n - 1) * (2 * n + 5)) / 18)
  const from = (share: number): number => sorted[Math.max(0, Math.min(sorted.length - 1, Math.round(share)))] ?? 0
  const middle = sorted.length / 2
  return { slope: from(middle - 0.5), low: from(middle - width / 2 - 1), high: from(middle + width / 2) }
}
