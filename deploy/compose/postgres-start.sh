#!/usr/bin/env bash
# Starts the primary. The passwords of its roles are those of the secrets, also after these have changed.
set -euo pipefail

if [ -s "$PGDATA/PG_VERSION" ]; then
  # The server without a network, for one session on its standard input.
  for role in fleet:POSTGRES_PASSWORD replicator:REPLICATION_PASSWORD; do
    echo "ALTER ROLE ${role%:*} PASSWORD '$(sed "s/'/''/g" "/run/secrets/${role#*:}")'"
  done | postgres --single -D "$PGDATA" postgres > /dev/null
fi
exec docker-entrypoint.sh "$@"
