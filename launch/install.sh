#!/bin/sh
# Inside an image while it is built, as the Dockerfile mounts it:
#
#   install.sh packages --extra quantize     what uv.lock pins
#   install.sh project --extra quantize      the program itself, from /project
#   install.sh toolchains                    the patch series of ModelOpt
#
# The same inputs give the same files: byte code carries no time (a program that starts here leaves none behind, and
# existing byte code is compiled again), the program's wheel is made from files of one date, and uv's note of when it
# built that wheel goes. A certificate of your own for reaching the registry comes as the secret `ca`; a uv cache that is
# mounted at /mnt takes the registry's place.
set -eu
export UV_PROJECT_ENVIRONMENT=/opt/proofcard UV_PYTHON_INSTALL_DIR=/opt/python UV_PYTHON_PREFERENCE=system
export UV_LINK_MODE=copy PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
if [ -f /run/secrets/ca ]; then export SSL_CERT_FILE=/run/secrets/ca; fi
if [ -f /mnt/CACHEDIR.TAG ]; then export UV_CACHE_DIR=/mnt UV_OFFLINE=1; fi

compile() { python -m compileall -q -f -j 0 --invalidation-mode unchecked-hash "$@"; }

step=$1
shift
case $step in
packages)
    /installer/uv sync --quiet --frozen --no-install-project --project /lock "$@"
    compile -x '/tests?/' /opt/proofcard/lib || true # some packages ship files that are no Python
    ;;
project)
    cp -r /project /tmp/project
    find /tmp/project -exec touch --date=@0 {} +
    /installer/uv sync --quiet --frozen --no-editable --project /tmp/project "$@"
    note=$(echo /opt/proofcard/lib/python3.*/site-packages/proofcard-*.dist-info/uv_cache.json)
    rm "$note"
    sed -i '/uv_cache.json/d' "${note%/*}/RECORD"
    compile /opt/proofcard/lib/python3.*/site-packages/proofcard
    ;;
toolchains)
    python -m proofcard.toolchain --root "$PROOFCARD_TOOLCHAINS" fixed as_published
    find "$PROOFCARD_TOOLCHAINS" -maxdepth 1 -name ".*lock*" -delete # it names the process and host that held it
    ;;
esac
