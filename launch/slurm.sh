#!/bin/bash
# The whole chain on one machine of eight GPUs: sbatch launch/slurm.sh recipe=… [key=value …]
# From the checkout, after make setup. Several machines: quantize first with hydra/launcher=slurm and the same overrides
# (docs/many-machines.md); this job then reuses its checkpoint. A job that runs out of its time queues again, and
# every finished stage is reused.
#SBATCH --job-name=proofcard-run
#SBATCH --nodes=1
#SBATCH --ntasks=1
#SBATCH --gpus-per-node=8
#SBATCH --time=12:00:00
#SBATCH --signal=B:TERM@120
#SBATCH --requeue
set -u
PATH=$PWD/.venv/bin:$PATH
proofcard run processes="${SLURM_GPUS_ON_NODE:-1}" "$@" &
chain=$!
trap 'kill -TERM $chain; wait $chain; scontrol requeue "$SLURM_JOB_ID"' TERM
wait $chain
