import { closeSync, type FSWatcher, fstatSync, openSync, readdirSync, readSync, statSync, watch } from 'node:fs'
import { basename, dirname, join, relative, resolve } from 'node:path'
import { FleetError } from '../../base/errors.ts'
import { usageError } from '../args.ts'

export interface Watch {
  close(): void
}

export interface WatchOptions {
  /** A folder that is not watched. */
  except?: string | undefined
  /** Called with a message when a file changes all the time and therefore does not count any more. */
  onNoise?(message: string): void
}

/** Folders that hold no source: what tools write, as in most .gitignore files. */
const ignoredFolders: ReadonlySet<string> = new Set(
  'node_modules bower_components coverage dist build out tmp temp logs reports'.split(' '),
)
/** Hidden files except `.env`, backups and probes of editors, reports of tests, and what programs write while they run. */
const ignoredNames =
  /^\.(?!env(?:\.|$))|~$|^#.*#$|^4913$|^(?:report\.(?:html|json)|junit\.xml)$|\.(?:log|tmp|pid|sock|tsbuildinfo|(?:sqlite3?|db)(?:-\w+)?|rdb|aof)$/i

/** Editors and tools write several files; a change counts when none follows for so long, ms. */
export const debounceMs = 100
/** A file with more changes in such a time is not edited by a person, e.g. a log that each reload adds to. */
const noise = { changes: 10, withinMs: 10_000 }
/** Each folder costs a watch of the operating system. */
const maxFolders = 5_000

/**
 * Watches files and folders with their subfolders, without the ignored ones. A path that is given is watched even if its name
 * is ignored. Unlike `fs.watch(…, { recursive: true })`, it does not open every file of node_modules on Linux.
 *
 * @param onChange called with the path of the last change, relative to the working directory
 * @throws FLEET_ERR_USAGE for a path that does not exist; FLEET_ERR_SERVICE_FAILED when the system has no watches left
 */
export function watchFiles(
  paths: readonly string[],
  onChange: (file: string) => void,
  { except, onNoise = () => {} }: WatchOptions = {},
): Watch {
  const watchers = new Map<string, FSWatcher>()
  let timer: NodeJS.Timeout | undefined

  const noisy = new Set<string>()
  let burst = { path: '', since: 0, changes: 0 }
  const report = (path: string): void => {
    if (noisy.has(path)) return
    clearTimeout(timer)
    timer = setTimeout(() => {
      const now = performance.now()
      if (burst.path !== path || now - burst.since > noise.withinMs) burst = { path, since: now, changes: 0 }
      const isNoisy = ++burst.changes > noise.changes
      if (isNoisy) noisy.add(path)
      const name = relative('', path) || path
      if (isNoisy)
        onNoise(`${name} changes all the time and does not count any more; name the sources with --watch-path`)
      else onChange(name)
    }, debounceMs)
  }
  const remove = (folder: string): void => {
    for (const [path, watcher] of watchers) {
      if (path !== folder && !path.startsWith(join(folder, '/'))) continue
      watcher.close()
      watchers.delete(path)
    }
  }
  /** @param only the one file to watch in it */
  const add = (folder: string, only?: string): void => {
    if (folder === except) return
    const key = only === undefined ? folder : join(folder, only)
    if (watchers.has(key)) return
    if (watchers.size >= maxFolders) throw tooMany(`more than ${maxFolders} folders`)
    const watcher = open(folder, (name) => {
      if (name === null || (only === undefined ? isIgnored(name) : name !== only)) return
      const path = join(folder, name)
      if (path === except || isOutput(path)) return
      report(path)
      if (only !== undefined) return
      // A folder that was replaced is another one.
      remove(path)
      if (isFolder(path) && !ignoredFolders.has(name)) addLater(path)
    })
    watchers.set(key, watcher)
    // A folder that is removed reports an error on Windows; its parent reports the change.
    watcher.on('error', () => watcher.close())
    if (only !== undefined) return
    for (const entry of readdirSync(folder, { withFileTypes: true })) {
      if (entry.isDirectory() && !isIgnored(entry.name)) add(join(folder, entry.name))
    }
  }
  /** A new folder may be gone again, or be one too many; the others are still watched. */
  const addLater = (folder: string): void => {
    try {
      add(folder)
    } catch {
      remove(folder)
    }
  }

  const close = (): void => {
    clearTimeout(timer)
    for (const watcher of watchers.values()) watcher.close()
    watchers.clear()
  }
  try {
    for (const path of paths.map((each) => resolve(each))) {
      const found = statSync(path, { throwIfNoEntry: false })
      if (!found) throw usageError(`--watch-path: no such file or folder: ${path}`)
      if (found.isDirectory()) add(path)
      // Editors replace a file, so its folder is watched.
      else add(dirname(path), basename(path))
    }
  } catch (error) {
    close()
    throw error
  }
  return { close }
}

const isIgnored = (name: string): boolean => ignoredFolders.has(name) || ignoredNames.test(name)

/** The beginning of the reports of `fleet test`: HTML, JUnit XML and JSON. */
const reportStart =
  /^(?:<!doctype html>.*<title>Fleet test of |<\?xml.*<testsuites name="fleet test"|\{"url":.*"verdict":)/s
const reportStartBytes = 1_024

/**
 * Whether a file is what a program wrote rather than a source: the output of this process, which must not cause more of it, or
 * a report of `fleet test`. An empty file is being written, or is such output before its first byte.
 */
function isOutput(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false })
  if (!found?.isFile()) return false
  const isOwn = [1, 2].some((descriptor) => {
    try {
      const { dev, ino } = fstatSync(descriptor)
      return dev === found.dev && ino === found.ino
    } catch {
      return false // Closed.
    }
  })
  return isOwn || found.size === 0 || reportStart.test(startOf(path))
}

/** The beginning of a file; nothing if it cannot be read, or is gone. */
function startOf(path: string): string {
  try {
    const file = openSync(path, 'r')
    try {
      const start = Buffer.alloc(reportStartBytes)
      return start.toString('utf8', 0, readSync(file, start))
    } finally {
      closeSync(file)
    }
  } catch {
    return ''
  }
}

const isFolder = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isDirectory() === true

function open(folder: string, listener: (name: string | null) => void): FSWatcher {
  try {
    return watch(folder, (_event, name) => listener(name))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    if (code === 'ENOSPC') throw tooMany('this system has no watches left (fs.inotify.max_user_watches)')
    if (code === 'EMFILE') throw tooMany('this system has no watches left (fs.inotify.max_user_instances)')
    throw error
  }
}

const tooMany = (why: string): FleetError =>
  new FleetError('FLEET_ERR_SERVICE_FAILED', `--watch: ${why}; name the folders of the sources with --watch-path`)
