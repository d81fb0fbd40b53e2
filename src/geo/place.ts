/** Degrees; north and east are positive. */
export interface Place {
  readonly latitude: number
  readonly longitude: number
}

/** Kilometres along the surface: the haversine formula (Sinnott, 1984). */
export function distanceKm(a: Place, b: Place): number {
  const radians = Math.PI / 180
  const half = (angle: number): number => Math.sin((angle * radians) / 2) ** 2
  const h =
    half(b.latitude - a.latitude) +
    Math.cos(a.latitude * radians) * Math.cos(b.latitude * radians) * half(b.longitude - a.longitude)
  return 12_742 * Math.asin(Math.sqrt(h))
}
