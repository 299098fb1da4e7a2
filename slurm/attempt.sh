# Sourced by the sbatch files: every attempt begins and ends with a line in the log, `== RUNNING ...` and then
# `== COMPLETED`, `== FAILED`, `== PREEMPTED`, `== NODE LOST` or `== CANCELLED`. A log that ends with RUNNING is of
# a job that still runs, and a job without a log is pending.
cd "$SLURM_SUBMIT_DIR"
PYTHON=${PYTHON:-.venv/bin/python}
tasks_per_node=${SLURM_NTASKS_PER_NODE:-${SLURM_GPUS_ON_NODE:-1}} # one a GPU
cpus_per_task=$((SLURM_CPUS_ON_NODE / tasks_per_node))
unset SLURM_CPUS_PER_GPU # srun would take it for an option, and refuses it beside --cpus-per-task
attempt=$((${SLURM_RESTART_COUNT:-0} + 1))
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID} # one task's own id may be the whole array's
job=${job:-$SLURM_JOB_ID}

say() { printf '\n== %s [%s %s, attempt %s, %s]\n' "$*" "$SLURM_JOB_NAME" "$job" "$attempt" "$(date -u +%FT%TZ)"; }

of_job() { scontrol show job --oneliner "$job" | grep -oP "(?<= $1=)\S+" || true; }

running() {
    local waited
    waited=$(($(date +%s) - $(date +%s -d "$(of_job EligibleTime)")))
    if grep '^== ' "$(of_job StdOut)" 2>/dev/null | tail -n 1 | grep -q RUNNING; then
        say "NODE LOST: the attempt before ended without a word; goes on from the last regular checkpoint"
    fi
    say "RUNNING on $SLURM_JOB_NUM_NODES nodes ($SLURM_JOB_NODELIST), $tasks_per_node tasks a node, pending for $waited s"
    if [ "$cpus_per_task" -lt 1 ]; then
        echo "error: $SLURM_CPUS_ON_NODE CPUs for $tasks_per_node tasks a node; submit with --cpus-per-gpu=8" >&2
        ended 2
    fi
}

# ended CODE: says how the attempt ended and leaves with the code.
ended() {
    local code=$1 restarts lost
    trap - TERM
    jobs -p | xargs -r kill 2>/dev/null || true # what a file of slurm/ has started beside its tasks
    restarts=$(of_job Restarts)
    if [ "${restarts:-0}" -ge "$attempt" ]; then
        lost=$(sinfo --noheader --nodes="$SLURM_JOB_NODELIST" --states=down,fail --format=%N | sort -u | paste -sd,)
        if [ -n "$lost" ]; then
            say "NODE LOST: $lost; requeued, goes on from the last regular checkpoint"
        else
            say "PREEMPTED or out of time; requeued, goes on from its checkpoint"
        fi
    elif [ "${by_slurm:-}" ]; then
        say "CANCELLED by Slurm, state $(of_job JobState)"
    elif [ "$code" -ne 0 ]; then
        say "FAILED with exit code $code"
    else
        say "COMPLETED"
    fi
    exit "$code"
}
trap 'by_slurm=yes; ended 143' TERM

# on_tasks COMMAND...: one process a task. One that fails ends the others, and its exit code is returned.
# In the background and waited for, since bash runs no trap while a command is in the foreground.
on_tasks() {
    srun --kill-on-bad-exit=1 --ntasks-per-node="$tasks_per_node" --cpus-per-task="$cpus_per_task" "$@" &
    wait $!
}

# on_one_task COMMAND...: on the first node, with all its CPUs.
on_one_task() {
    srun --kill-on-bad-exit=1 --nodes=1 --ntasks=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" "$@" &
    wait $!
}
