/**
 * An object without a prototype, for untrusted keys: header names, query names, names in files. A plain `{}` already has
 * `constructor` and `toString`, and assigning to its `__proto__` changes the object.
 */
export const dictionary = <T>(): Record<string, T> => Object.create(null)

/** A frozen table of constants for untrusted keys; unknown keys are undefined. */
export const lookup = <T extends object>(entries: T): T => Object.freeze(Object.assign(Object.create(null), entries))
