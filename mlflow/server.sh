#!/bin/sh
# The MLflow server: runs in PostgreSQL, artifacts through it onto a volume, users with passwords, named hosts only.
# compose.yaml starts it and the tests do, so what is tested is what runs.
#
#   PGHOST PGPORT PGUSER PGDATABASE PGSSLMODE       where PostgreSQL is: libpq's own variables
#   PGPASSWORD_FILE ADMIN_PASSWORD_FILE SECRET_KEY_FILE     files with one secret each
#   ARTIFACTS                       folder of the artifacts
#   MLFLOW_SERVER_ALLOWED_HOSTS     what a request's Host header may say: name or name:port, with commas
#   HOST PORT WORKERS               0.0.0.0, 5000 and 4 unless given
set -eu

secret() {  # NAME FILE: the file's content as the variable NAME; no argument of any process shows it
    if [ ! -r "$2" ]; then echo "mlflow/server.sh: $1 is read from $2, which cannot be read" >&2 && exit 2; fi
    export "$1=$(cat "$2")"
}
secret PGPASSWORD "${PGPASSWORD_FILE:-/run/secrets/postgres_password}"
secret MLFLOW_AUTH_ADMIN_PASSWORD "${ADMIN_PASSWORD_FILE:-/run/secrets/mlflow_admin_password}"
secret MLFLOW_FLASK_SERVER_SECRET_KEY "${SECRET_KEY_FILE:-/run/secrets/mlflow_secret_key}"

MLFLOW_AUTH_CONFIG_PATH=$(cd "$(dirname "$0")" && pwd)/basic_auth.ini
export PYTHONSAFEPATH=1 MLFLOW_AUTH_CONFIG_PATH MLFLOW_DISABLE_TELEMETRY=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false
export MLFLOW_SERVER_ALLOWED_HOSTS="${MLFLOW_SERVER_ALLOWED_HOSTS:?which Host headers are served}"
exec mlflow server --app-name basic-auth --host "${HOST:-0.0.0.0}" --port "${PORT:-5000}" \
    --workers "${WORKERS:-4}" --backend-store-uri postgresql+psycopg:// \
    --artifacts-destination "${ARTIFACTS:?where artifacts go}"
