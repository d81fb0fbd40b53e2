import { queryObjects } from 'node:v8'

/** How many objects of a class, or of its subclasses, are reachable. Collects garbage first. */
export const liveObjects = (type: abstract new (...args: never[]) => object): number => Number(queryObjects(type))
