#!/usr/bin/env bash
# Starts a streaming replica. If the data folder is empty, it copies the primary first.
set -euo pipefail

export PGPASSFILE=/tmp/replication
(umask 077 && sed -e 's/[\\:]/\\&/g' -e 's/^/*:*:*:*:/' /run/secrets/REPLICATION_PASSWORD > "$PGPASSFILE")
if ! [ -s "$PGDATA/PG_VERSION" ]; then
  # Discard an incomplete copy.
  find "$PGDATA" -mindepth 1 -delete
  # --write-recovery-conf makes it a standby.
  pg_basebackup --host "$PRIMARY_HOST" --username replicator --pgdata "$PGDATA" \
    --slot replica --wal-method stream --checkpoint fast --write-recovery-conf
  chmod 700 "$PGDATA"
fi
exec "$@" -c primary_conninfo="host=$PRIMARY_HOST user=replicator passfile=$PGPASSFILE"
