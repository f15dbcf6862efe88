#!/usr/bin/env bash
# Train on several nodes under SLURM: sbatch training/accelerate/slurm.sh FILE.toml [--set ...]
# Every node runs one launcher, which starts a process per GPU; run.output must lie on a disk that all nodes share.
#SBATCH --job-name=scenetok
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@180
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=slurm-%j.out
# TERM comes 180 s before the end; the run saves, exits, and goes on in the next job with the same command.
set -euo pipefail

: "${1:?usage: sbatch training/accelerate/slurm.sh FILE.toml [arguments of training/train.py]}"
cd "${SLURM_SUBMIT_DIR:-.}"
export MAIN_IP PROCESSES
MAIN_IP=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
PROCESSES=$((SLURM_NNODES * ${SLURM_GPUS_ON_NODE:-8}))
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-4}

# exec: the signal reaches the launcher; the quoted names are those of each node
# shellcheck disable=SC2016
srun --kill-on-bad-exit=1 bash -c 'exec "${ACCELERATE:-.venv/bin/accelerate}" launch \
  --config_file training/accelerate/nodes.yaml --num_machines "$SLURM_NNODES" --num_processes "$PROCESSES" \
  --machine_rank "$SLURM_NODEID" --main_process_ip "$MAIN_IP" training/train.py --config "$@"' train "$@"
