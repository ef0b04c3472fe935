#!/usr/bin/env bash
# A SLURM of one node on this machine, for tests: start.sh [STATE [KEY=VALUE...]]
#
# All of it (configuration, logs, sockets, the queue) lies in the folder STATE, by default a new
# temporary one; further words become lines of slurm.conf. What it prints points SLURM's commands
# at it, so that this is all there is to do:
#
#     eval "$(tests/slurm/start.sh STATE)"
#     ...
#     tests/slurm/stop.sh STATE
#
# Started again, it starts what does not run, and the queue goes on. Where SLURM is missing it is
# installed from Debian's packages, which takes root; to run it does not. It needs neither systemd
# nor cgroups, and listens on free ports, so that several can run side by side.
set -euo pipefail
umask 022

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
state=$(realpath -m "${1:-$(mktemp -d)}")
shift || true
source "$here/common.sh"

install_slurm() {
    if [[ $(id -u) != 0 ]]; then
        say "SLURM is missing; as root: apt-get install slurm-wlm munge"
        exit 1
    fi
    local policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        # Debian's packages would start services of their own.
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod +x "$policy"
        trap 'rm -f /usr/sbin/policy-rc.d' EXIT
    fi
    export DEBIAN_FRONTEND=noninteractive
    if ! { apt-get update -qq && apt-get install -y -qq --no-install-recommends slurm-wlm munge
         } >"$state/install.log" 2>&1; then
        say "SLURM cannot be installed:"
        tail -n 15 "$state/install.log" >&2
        exit 1
    fi
}

free_ports() {
    python3 -c 'import socket
pair = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(one.getsockname()[1] for one in pair))'
}

# The sizes of the node are believed as they stand here, and nothing limits what a job takes.
write_configuration() {
    local node user controller_port node_port memory
    node=$(hostname -s)
    user=$(id -un)
    read -r controller_port node_port < <(free_ports)
    memory=$(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)
    cat <<CONF
ClusterName=test
SlurmctldHost=$node(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SlurmUser=$user
SlurmdUser=$user
AuthType=auth/munge
AuthInfo=socket=$state/munge.socket
CredType=cred/munge
StateSaveLocation=$state/queue
SlurmdSpoolDir=$state/node
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.pid
SlurmctldLogFile=$state/slurmctld.log
SlurmdLogFile=$state/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$state/ended_jobs.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=10000
ReturnToService=2
KillWait=5
MpiDefault=none
NodeName=$node NodeAddr=127.0.0.1 CPUs=2 RealMemory=$memory State=UNKNOWN
PartitionName=main Nodes=$node Default=YES MaxTime=INFINITE State=UP
CONF
    printf '%s\n' "$@"
}

start_daemons() {
    # Forced, munged accepts a folder that others cannot enter.
    running munged || munged --force --key-file="$state/munge.key" \
        --socket="$state/munge.socket" --pid-file="$state/munged.pid" \
        --log-file="$state/munged.log" --seed-file="$state/munge.seed" || return
    running slurmctld || slurmctld || return
    running slurmd || slurmd
}

ready() { [[ $(timeout 5 sinfo --noheader --format=%T 2>&1) =~ ^(idle|mixed|allocated)$ ]]; }

mkdir -p "$state"/{queue,node}
for command in munged slurmctld slurmd sbatch; do
    command -v "$command" >/dev/null || { install_slurm && break; }
done
[[ -e $state/munge.key ]] || (umask 077 && head -c 1024 /dev/urandom >"$state/munge.key")
[[ -e $state/slurm.conf ]] || write_configuration "$@" >"$state/slurm.conf"
export SLURM_CONF=$state/slurm.conf
if ! start_daemons >>"$state/start.log" 2>&1 </dev/null || ! wait_until 60 ready; then
    say "SLURM does not start; its logs, in $state, end with:"
    tail -n 15 "$state"/*.log >&2
    "$here/stop.sh" "$state"
    exit 1
fi
echo "export SLURM_CONF=$(printf %q "$SLURM_CONF")"
