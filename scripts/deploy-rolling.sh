#!/bin/sh
# `fleet deploy rolling` with these arguments: scripts/deploy-rolling.sh --front nginx --version 2 … (docs/deploy.md)
set -eu
if command -v fleet > /dev/null; then exec fleet deploy rolling "$@"; fi
here=$(cd "$(dirname "$0")/.." && pwd)
# In a checkout: the build, else the source.
main=$here/dist/cli/main.js
[ -f "$main" ] || main=$here/src/cli/main.ts
exec node "$main" deploy rolling "$@"
