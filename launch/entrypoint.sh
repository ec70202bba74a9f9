#!/bin/sh
# The images' entry point: a command of proofcard and its arguments, or any other program of the image.
# What an NVIDIA container lacks without --gpus would only show at the first CUDA call, hours in, so it is checked here.
set -eu
if [ ! -w /tmp ]; then export TMPDIR=/cache; fi  # a read-only root without a tmpfs
if [ -n "${MLFLOW_TRACKING_PASSWORD_FILE:-}" ]; then
    MLFLOW_TRACKING_PASSWORD=$(cat "$MLFLOW_TRACKING_PASSWORD_FILE")
    export MLFLOW_TRACKING_PASSWORD
fi

needs_gpu=false
for word in "$@"; do
    case $word in
    run | quantize | serve | benchmark) needs_gpu=maybe ;;
    -h | --help | hardware=cpu | hardware.device=cpu | serving=transformers_cpu | endpoint=*) needs_gpu=no && break ;;
    hardware=cuda | hardware.device=cuda) needs_gpu=yes ;;
    esac
done
for device in /dev/nvidiactl /dev/nvidia[0-9]* /dev/dxg; do
    if [ -e "$device" ]; then needs_gpu=no; fi
done
missing="no GPU is visible in this container: add --gpus all (podman: --device nvidia.com/gpu=all)"
case $needs_gpu in
yes) echo "$missing" >&2 && exit 2 ;;
maybe) echo "$missing, unless none is meant (hardware=cpu, serving=transformers_cpu)" >&2 ;;
esac
case ${1:-} in
run | plan | fetch | quantize | verify | reproduce | evaluate | compare | analyse | serve | benchmark | tasks | agentic | repeat | audit | card | sign | publish) set -- proofcard "$@" ;;
esac
exec "$@"
