#!/usr/bin/env bash
# Starts a streaming replica. If the data folder is empty, it copies the primary first.
set -euo pipefail

if ! [ -s "$PGDATA/PG_VERSION" ]; then
  # Discard an incomplete copy.
  find "$PGDATA" -mindepth 1 -delete
  # --write-recovery-conf makes it a standby and stores how to reach the primary.
  PGPASSWORD=$REPLICATION_PASSWORD pg_basebackup --host "$PRIMARY_HOST" --username replicator --pgdata "$PGDATA" \
    --slot replica --wal-method stream --checkpoint fast --write-recovery-conf
  chmod 700 "$PGDATA"
fi
exec "$@"
