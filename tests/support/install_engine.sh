#!/usr/bin/env bash
# Start a Docker engine of the tests' own unless one answers already.
#
#   PID=$(tests/support/install_engine.sh DIR)
#
# Prints the pid of the dockerd that it started (the caller ends it), or nothing if an engine
# answers already. DIR keeps the engine's data and log. Needs root; without dockerd on PATH it
# installs Debian's docker.io (run apt-get update before).
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi

answers() { type -P docker >/dev/null && timeout 20 docker version >/dev/null 2>&1; }

if answers; then
    exit 0
fi
if ! type -P dockerd >/dev/null; then
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        docker.io iptables >&2
fi
mkdir -p "$1"
dir=$(cd "$1" && pwd)
log=$dir/dockerd.log

# After a reboot another process may have the pid that is written there, and the engine would take it
# for its own; the same goes for one that nobody reaped, which has no command line any more.
forget_stale() { # FILE NAME
    local pid
    pid=$(cat "$1" 2>/dev/null || true)
    if ! grep -qza "$2" "/proc/${pid:-none}/cmdline" 2>/dev/null; then
        rm -f "$1"
    fi
}
forget_stale "$dir/dockerd.pid" dockerd
forget_stale "$dir/exec/containerd/containerd.pid" containerd

# In a session of its own, so that Ctrl-C at the tests' terminal does not end it under them.
setsid dockerd --data-root "$dir/data" --exec-root "$dir/exec" --pidfile "$dir/dockerd.pid" \
    </dev/null >"$log" 2>&1 &
pid=$!
deadline=$((SECONDS + 90))
until answers; do
    if ! kill -0 "$pid" 2>/dev/null || [ "$SECONDS" -ge "$deadline" ]; then
        echo "install_engine: dockerd does not answer; the end of $log:" >&2
        tail -n 40 "$log" >&2
        kill "$pid" 2>/dev/null || true
        exit 1
    fi
    sleep 0.3
done
echo "$pid"
