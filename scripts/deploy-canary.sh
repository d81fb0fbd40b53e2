#!/bin/sh
# `fleet deploy canary` with these arguments: scripts/deploy-canary.sh --front nginx --version 2 … (docs/deploy.md)
set -eu
if command -v fleet > /dev/null; then exec fleet deploy canary "$@"; fi
here=$(cd "$(dirname "$0")/.." && pwd)
# In a checkout: the build, else the source.
main=$here/dist/cli/main.js
[ -f "$main" ] || main=$here/src/cli/main.ts
exec node "$main" deploy canary "$@"
