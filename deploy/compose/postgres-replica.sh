#!/usr/bin/env bash
# Starts a streaming replica: with an empty data folder it copies the primary first.
set -euo pipefail

if ! [ -s "$PGDATA/PG_VERSION" ]; then
  # A copy that broke off is worth nothing.
  find "$PGDATA" -mindepth 1 -delete
  # --write-recovery-conf makes it a standby, and remembers how to reach the primary.
  PGPASSWORD=$REPLICATION_PASSWORD pg_basebackup --host "$PRIMARY_HOST" --username replicator --pgdata "$PGDATA" \
    --slot replica --wal-method stream --checkpoint fast --write-recovery-conf
  chmod 700 "$PGDATA"
fi
exec "$@"
