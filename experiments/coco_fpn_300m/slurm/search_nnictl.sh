#!/bin/bash
# Step 3, the search, by nnictl's door: eight trials at a time on one node's GPUs, and NNI's web UI.
#   sbatch experiments/coco_fpn_300m/slurm/search_nnictl.sh
# docs/clusters.md says what to change for another cluster, and how it was tried.
#SBATCH --job-name=detnas-search_nnictl
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=B:TERM@300 # seconds before the limit, in which the state is saved
#SBATCH --requeue
#SBATCH --open-mode=append # one log, however often it is queued again
#SBATCH --output=%x-%j.log
. experiments/coco_fpn_300m/slurm/step.sh
port=$((8000 + SLURM_JOB_ID % 1000))
# Slurm asks this shell alone (B:): trials that are killed would count as failed, so NNI is stopped first.
trap 'detnas stop -c "$config"; end 143' TERM
nnictl create --config "$(dirname "$config")/search_detnas.yaml" --port "$port" || exit
echo "The web UI, from your own machine: ssh -L 8080:127.0.0.1:$port $(hostname), then http://127.0.0.1:8080"
detnas follow --port "$port" --stop &
wait $!
