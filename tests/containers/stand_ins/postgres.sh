#!/bin/sh
# A stand-in for the PostgreSQL image of compose.yaml, of Debian's packages: a database, its owner and password.
set -eu
bin=$(echo /usr/lib/postgresql/*/bin)
data=/var/lib/postgresql/data
install -d -o postgres -m 700 "$data"
install -d -o postgres /run/postgresql
if [ ! -f "$data/PG_VERSION" ]; then
    install -o postgres -m 400 "$POSTGRES_PASSWORD_FILE" /tmp/password
    setpriv --reuid postgres --regid postgres --clear-groups "$bin/initdb" --pgdata "$data" \
        --encoding UTF8 --username "$POSTGRES_USER" --pwfile /tmp/password --auth-host scram-sha-256 --auth-local trust
    echo "host all all all scram-sha-256" >>"$data/pg_hba.conf"
    echo "CREATE DATABASE $POSTGRES_DB;" | setpriv --reuid postgres --regid postgres --clear-groups \
        "$bin/postgres" --single -D "$data" postgres
fi
exec setpriv --reuid postgres --regid postgres --clear-groups "$bin/postgres" -D "$data" -c listen_addresses='*'
