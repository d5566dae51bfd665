# What the batch scripts of this folder share; they source it. CONFIG names another experiment than this folder's.
config=${CONFIG:-experiments/coco_fpn_300m/detnas.yaml}
if [ -d .venv/bin ]; then # as `make` has made it
    export PATH="$PWD/.venv/bin:$PATH"
fi
# srun does not take it from sbatch since Slurm 22.05.
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-1}

asked=

# run END COMMAND…: run a command; when Slurm asks this script to end, END is what ends the command. Slurm asks
# the script alone (B: in its --signal), which knows then that the command did not fail. Where it did not, it is
# not done: the job is queued again, and goes on where it stands.
run() {
    trap "asked=1; echo 'job $SLURM_JOB_ID is asked to end'; $1" TERM
    shift
    "$@" &
    child=$!
    wait $child
    status=$?
    while kill -0 $child 2>/dev/null; do # the signal ends `wait`, not the command
        wait $child
        status=$?
    done
    # A job that was canceled is asked to end, too.
    if [ -n "$asked" ] && [ $status != 0 ] &&
        [ "$(squeue --noheader --jobs "$SLURM_JOB_ID" --format %T)" = RUNNING ]; then
        echo "job $SLURM_JOB_ID is queued again to go on"
        scontrol requeue "$SLURM_JOB_ID"
    fi
    exit $status
}

# train STEP ARGUMENTS…: a `detnas STEP` of one process a GPU, on all nodes of the job.
#
# srun starts the processes and says who is who by the variables that torchrun would set; they meet as torchrun's
# do, at the first node. No torchrun stands between: Slurm signals every process of a step, and torchrun would
# pass the signal on to processes that have had it, which ends them before they have saved.
train() {
    export MASTER_PORT=${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 10000))}
    run 'scancel --signal=TERM "$SLURM_JOB_ID"' srun --kill-on-bad-exit=1 bash -c '
        export RANK=$SLURM_PROCID WORLD_SIZE=$SLURM_NTASKS GROUP_RANK=$SLURM_NODEID
        export LOCAL_RANK=$SLURM_LOCALID LOCAL_WORLD_SIZE=$SLURM_NTASKS_PER_NODE
        export MASTER_ADDR=$SLURM_LAUNCH_NODE_IPADDR TORCHELASTIC_RUN_ID=$SLURM_JOB_ID
        exec detnas "$@"' detnas "$@"
}
