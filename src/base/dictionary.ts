/**
 * An object without a prototype, for keys that come from outside: header names, query names, names in files. A plain `{}`
 * already has `constructor` and `toString`, and assigning to its `__proto__` changes the object itself.
 */
export const dictionary = <T>(): Record<string, T> => Object.create(null)

/** A table of constants that is looked up by text from outside; names that it does not define are undefined. */
export const lookup = <T extends object>(entries: T): T => Object.freeze(Object.assign(Object.create(null), entries))
