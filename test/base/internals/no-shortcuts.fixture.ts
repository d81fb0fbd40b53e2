// Disables every shortcut, in this process and by `--import` in the processes that a suite starts.

import { shortcuts } from '../../../src/base/internals/shortcuts.ts'

for (const name of Object.keys(shortcuts) as (keyof typeof shortcuts)[]) shortcuts[name] = false
