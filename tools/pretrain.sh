#!/usr/bin/env bash
# Pretrain a backbone on the CPU, one GPU, several GPUs, or under SLURM.
#
#   tools/pretrain.sh CONFIG [GPUS] [--method NAME ...] [--dry-run] [--work-dir DIR] [--resume auto]
#                      [--cfg-options k=v ...]
#
# GPUS > 1 starts that many processes on this machine by torchrun; more machines: NNODES, NODE_RANK, MASTER_ADDR and
# MASTER_PORT as for torchrun. Inside a SLURM job of several tasks each task runs one process: call it with srun
# (tools/slurm.sh submits such a job).
set -euo pipefail

if [[ $# -lt 1 ]]; then
    sed -n '2,9s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
config=$1
shift
processes=1
if [[ ${1:-} =~ ^[0-9]+$ ]]; then
    processes=$1
    shift
fi

cd "$(dirname "$0")/.."
python=${PYTHON:-python}
[[ -x .venv/bin/python && -z ${PYTHON:-} ]] && python=.venv/bin/python

if ((processes > 1 || ${NNODES:-1} > 1)); then
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1} # what torchrun would set, with a warning
    exec "$python" -m pretrain.training.launch --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" \
        --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${MASTER_PORT:-29500}" \
        --nproc-per-node="$processes" -m pretrain.training "$config" "$@"
fi
exec "$python" -m pretrain.training "$config" "$@"
