/** Pool of instances that name none, and of requests that no route matches. */
export const defaultPool = 'default'

/** A name that can also be part of a variable and of another program's configuration. */
export const isPoolName = (name: string): boolean => /^[a-z][a-z0-9-]{0,31}$/.test(name)

/** Completes the sentence "… must be". */
export const poolNameText = 'up to 32 lower-case letters, digits or -, with a letter first'
