#!/usr/bin/env bash
# Run once by the official image, when it has made the database: whom the replica comes as, and its place in the log.
set -euo pipefail

psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password REPLICATION_PASSWORD
CREATE ROLE replicator WITH REPLICATION LOGIN PASSWORD :'password';
-- What the replica has not fetched is kept for it, up to max_slot_wal_keep_size.
SELECT pg_create_physical_replication_slot('replica');
SQL
echo 'host replication replicator all scram-sha-256' >> "$PGDATA/pg_hba.conf"
