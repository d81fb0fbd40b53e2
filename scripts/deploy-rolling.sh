#!/bin/sh
# `fleet deploy rolling` with the arguments given: scripts/deploy-rolling.sh --front nginx --version 2 … (docs/deploy.md)
set -eu
if command -v fleet > /dev/null; then exec fleet deploy rolling "$@"; fi
here=$(cd "$(dirname "$0")/.." && pwd)
# A checkout: as built, else from the source.
main=$here/dist/cli/main.js
[ -f "$main" ] || main=$here/src/cli/main.ts
exec node "$main" deploy rolling "$@"
