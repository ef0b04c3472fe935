#!/usr/bin/env bash
# Ends the SLURM that start.sh started, its jobs first: stop.sh STATE
#
# The folder STATE stays, with its logs.
set -euo pipefail

if [[ $# != 1 || ! -e $1/slurm.conf ]]; then
    echo "usage: stop.sh STATE, a folder that start.sh was given" >&2
    exit 2
fi
state=$(realpath "$1")
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
export SLURM_CONF=$state/slurm.conf

no_jobs() { [[ -z $(timeout 5 squeue --noheader 2>&1) ]]; }
not_running() { ! running "$1"; }

# Whether nothing of a job is left, which is killed if it is: processes whose environment is a job's
# of this SLURM. A shell that start.sh has pointed at it has no SLURM_JOB_ID.
nothing_left() {
    local left
    left=$(grep -lzxF "SLURM_CONF=$SLURM_CONF" /proc/[0-9]*/environ 2>/dev/null |
        xargs -r grep -lz '^SLURM_JOB_ID=' 2>/dev/null | cut -d/ -f3) || true
    [[ -z $left ]] || { kill -9 $left 2>/dev/null; return 1; }
}

# Those who look after jobs; without slurmctld they would wait for it to hear of the jobs' end.
step_daemons() {
    local process
    for process in /proc/[0-9]*; do
        if [[ $(cat "$process/comm" 2>/dev/null) == slurmstepd &&
            $(readlink "$process/cwd") == "$state" ]]; then
            echo "${process#/proc/}"
        fi
    done
}

end() {
    running "$1" || return 0
    local pid
    pid=$(cat "$state/$1.pid")
    kill "$pid" 2>/dev/null || true
    wait_until 10 not_running "$1" || kill -9 "$pid"
}

if running slurmctld && running slurmd; then
    timeout 10 scancel --partition=main || true
    wait_until 10 no_jobs || say "jobs do not end; they are killed"
fi
end slurmd
step_daemons | xargs -r kill -9 2>/dev/null || true
wait_until 10 nothing_left || say "jobs are left"
end slurmctld
end munged
