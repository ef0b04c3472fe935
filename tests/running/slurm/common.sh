# What start.sh and stop.sh share; $state is the folder that they were given.
export PATH="$PATH:/usr/sbin:/sbin"

say() { echo "$(basename "$0"): $*" >&2; }

# Whether a daemon of this state folder runs: running NAME. After a kill -9 its file stays, and the
# process id is a zombie's, which has no executable, or soon somebody else's.
running() {
    local pid
    pid=$(cat "$state/$1.pid" 2>/dev/null) &&
        [[ -e /proc/$pid/exe && $(cat "/proc/$pid/comm") == "$1" ]]
}

# Run a command every fifth of a second until it succeeds: wait_until SECONDS COMMAND...
wait_until() {
    local end=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < end)) || return 1
        sleep 0.2
    done
}
