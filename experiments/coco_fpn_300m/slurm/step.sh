# What the batch scripts beside this file share. They are submitted, and run, in the folder that holds `experiments`.

config=experiments/coco_fpn_300m/detnas.yaml

# step COMMAND…: run it as the job's tasks, each told by torchrun's variables who it is. A job that Slurm asks to end
# before its time limit (#SBATCH --signal) saves its state and ends with 143, SIGTERM's status: it is queued again.
step() {
    MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
    MASTER_PORT=$((20000 + SLURM_JOB_ID % 20000))
    TORCHELASTIC_RUN_ID=$SLURM_JOB_ID
    export MASTER_ADDR MASTER_PORT TORCHELASTIC_RUN_ID
    # No torchrun in between: Slurm signals every process of a task, torchrun hands the signal on, and the second one
    # would end a process that is saving.
    srun --kill-on-bad-exit=1 bash -c '
        export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS GROUP_RANK=$SLURM_NODEID
        export LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=${SLURM_NTASKS_PER_NODE:-$SLURM_NTASKS}
        exec "$@"' task "$@"
    end $?
}

# end STATUS: leave with it, or come again.
end() {
    if [ "$1" -eq 143 ]; then
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit "$1"
}
