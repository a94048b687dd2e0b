#!/usr/bin/env bash
# Submit a pretraining to SLURM: one job, which goes on after its time limit or a pre-emption until the run is complete.
#
#   tools/slurm.sh CONFIG [--nodes N] [--gpus G] [--cpus C] [--time T] [--partition P] [--account A] [--print]
#                  [arguments of tools/pretrain.sh ...]
#
# G GPUs on each of N nodes (1 and 1; 0: one process on the CPU), C cores for each process; T, P and A are sbatch's own.
# The output goes to work_dirs/slurm/NAME-JOB.log. --print shows the job's script and submits nothing.
set -euo pipefail

refuse() {
    echo "error: $1" >&2
    exit 2
}

if [[ $# -lt 1 ]]; then
    sed -n '2,8s/^# \{0,1\}//p' "$0" >&2
    exit 2
fi
config=$1
shift
declare -A option=([nodes]=1 [gpus]=1)
print=
arguments=()
while (($#)); do
    case $1 in
    --print) print=yes ;;
    --nodes=* | --gpus=* | --cpus=* | --time=* | --partition=* | --account=*)
        set -- "${1%%=*}" "${1#*=}" "${@:2}"
        continue
        ;;
    --nodes | --gpus | --cpus | --time | --partition | --account)
        [[ ${2:-} =~ ^[A-Za-z0-9_.,:][A-Za-z0-9_.,:-]*$ ]] || refuse "$1 ${2:-}: needs a value, and no space in it"
        option[${1#--}]=$2
        shift
        ;;
    *) arguments+=("$1") ;;
    esac
    shift
done

for name in nodes gpus ${option[cpus]+cpus}; do
    [[ ${option[$name]} =~ ^(0|[1-9][0-9]*)$ ]] || refuse "--$name ${option[$name]}: a whole number is needed"
    [[ ${option[$name]} != 0 || $name == gpus ]] || refuse "--$name 0: at least 1 is needed"
done
[[ ! ${arguments[0]:-} =~ ^[0-9]+$ ]] || refuse "${arguments[0]}: the GPUs of a node are --gpus ${arguments[0]}"
cd "$(dirname "$0")/.."
[[ -f $config ]] || refuse "$config: no such config under $PWD"
[[ -n $print ]] || command -v sbatch >/dev/null ||
    refuse "no sbatch on this machine; add --print to see the script, and submit it where there is SLURM"

name=$(basename "$config" .py)
gpus=${option[gpus]}
job() {
    echo "#!/usr/bin/env bash"
    echo "#SBATCH --job-name=pretrain-${name//[^A-Za-z0-9_.-]/_}"
    echo "#SBATCH --nodes=${option[nodes]}"
    echo "#SBATCH --ntasks-per-node=$((gpus > 0 ? gpus : 1))"
    ((gpus == 0)) || echo "#SBATCH --gpus-per-node=$gpus"
    [[ -z ${option[cpus]:-} ]] || echo "#SBATCH --cpus-per-task=${option[cpus]}"
    for given in time partition account; do
        [[ -z ${option[$given]:-} ]] || echo "#SBATCH --$given=${option[$given]}"
    done
    cat <<'JOB'
#SBATCH --output=work_dirs/slurm/%x-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=USR1@120
# Two minutes before the time is up SLURM sends USR1 to the tasks that srun started. Not to this shell, which B:USR1
# would mean: it lives on, and queues the job once more. SIGTERM before a pre-emption goes to the tasks alone too.
# SIGTERM to this shell as well means that SLURM ends the job: that is not trapped.
set -euo pipefail
trap : USR1 # of scancel --full --signal=USR1
JOB
    printf 'cd %q\n' "$PWD"
    cat <<'JOB'
# A task that ends must not take the others with it before they have said 75; after two minutes it may.
# srun does not take --cpus-per-task over from sbatch.
JOB
    printf 'status=0\nsrun --kill-on-bad-exit=0 --wait=120'
    printf ' %q' ${option[cpus]+"--cpus-per-task=${option[cpus]}"} tools/pretrain.sh "$config" --resume auto \
        ${arguments[@]+"${arguments[@]}"}
    cat <<'JOB'
 || status=$?
# 75 is "resume me": the state is saved. A job that was cancelled, or that SLURM queues again, does not run any more.
if ((status == 75)) && [[ $(scontrol show job "$SLURM_JOB_ID") == *JobState=RUNNING* ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$status"
JOB
}

if [[ -n $print ]]; then
    job
else
    mkdir -p work_dirs/slurm # sbatch does not make it, and the job would fail without a word
    sbatch <<<"$(job)"
fi
