#!/bin/bash
# Step 1, the classification supernet, on two nodes of eight GPUs.
#   sbatch experiments/coco_fpn_300m/slurm/pretrain.sh
# docs/clusters.md says what to change for another cluster, and how it was tried.
#SBATCH --job-name=detnas-pretrain
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8 # a process a GPU
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=8 # loader processes among them: hardware.workers
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300 # seconds before the limit, in which the state is saved
#SBATCH --requeue
#SBATCH --open-mode=append # one log, however often it is queued again
#SBATCH --output=%x-%j.log
. experiments/coco_fpn_300m/slurm/step.sh
step detnas pretrain -c "$config"
