#!/usr/bin/env bash
# The official image runs this once, after it has created the database: creates the replica's role and replication slot.
set -euo pipefail

password=$(< /run/secrets/REPLICATION_PASSWORD) \
  psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password password
CREATE ROLE replicator WITH REPLICATION LOGIN PASSWORD :'password';
-- WAL that the replica has not received is kept, up to max_slot_wal_keep_size.
SELECT pg_create_physical_replication_slot('replica');
SQL
echo 'host replication replicator all scram-sha-256' >> "$PGDATA/pg_hba.conf"
