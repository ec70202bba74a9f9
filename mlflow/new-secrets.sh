#!/bin/sh
# The secrets of compose.yaml, made once; those that are there stay as they are.
# The folder is closed to other users of the host, the files are not: containers read them as a user of their own.
set -eu
folder=$(cd "$(dirname "$0")" && pwd)/secrets
mkdir -p -m 700 "$folder"
umask 022
for name in postgres_password mlflow_admin_password mlflow_secret_key; do
    if [ ! -s "$folder/$name" ]; then
        od -An -tx1 -N24 /dev/urandom | tr -d ' \n' > "$folder/$name.new"
        mv "$folder/$name.new" "$folder/$name"
    fi
done
echo "secrets: $folder"
