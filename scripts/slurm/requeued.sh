#!/usr/bin/env bash
# requeued.sh COMMAND...: run the command in this batch job; when SLURM sends SIGUSR1 (--signal=B:USR1@60: a minute before the
# time limit, or at a preemption) let it write its checkpoint, and put the job back into the queue, where it goes on.
set -u
if [ -f .venv/bin/activate ]; then
    # shellcheck disable=SC1091
    . .venv/bin/activate
fi
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

job="${SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}${SLURM_ARRAY_TASK_ID:+_$SLURM_ARRAY_TASK_ID}"
asked=""
"$@" &
child=$!
trap 'asked=yes; kill -USR1 "$child"' USR1
trap 'kill -TERM "$child"' TERM
while true; do
    wait "$child"
    status=$?
    kill -0 "$child" 2>/dev/null || break # a signal ends `wait` as well: then wait again
done
if [ -n "$asked" ] && [ "$status" -ne 0 ]; then
    echo "job $job is put back into the queue (its command ended with $status)"
    scontrol requeue "$job"
fi
exit "$status"
