"""What a shell session runs in the sandbox, in POSIX sh with small tools.

A session is a private folder (0700) and a tree of processes::

    in      FIFO: what the session's shell reads
    status  FIFO: what it answers, one "TOKEN STATUS" a line; "-" when it has ended
    text    file: the command, sourced by the shell
    jobs    file: children of the shell from before the command
    ended   file: the status of the shell, once it has ended

Each command has a helper (RUN) whose own stdout and stderr are where the output goes: the shell
opens copies of them through /proc/PID/fd (while the helper prints, its own 1 is another file). The
helper ends with the status of the command, so the runtime tells status and output of the helper as
those of any command, bounded, exact, and with the same answer to a child in the background that
holds the output open. FIFOs are opened for reading and writing (``<>``), which never blocks.

The shell is interactive (``-i``), for two reasons: errors that would end a script do not end the
session, and SIGINT makes it drop all of a command that it is in. Nothing but that does, in all of
bash, dash and ash: with its children killed alone, a shell goes on with the next in the list.
ignoreeof is for ash, which takes the end of a child, while it waits for a line, for the end of its
input.
"""

from __future__ import annotations

from typing import Final

ABORT: Final = 60
"""The real-time signal by which the shell is told to drop a command. Unlike SIGINT, it also works
when what the shell waits for was ended by another signal."""

BASES: Final = ("/tmp", "/dev/shm", "/var/tmp", "/run")
"""Where the folder can be."""
NO_PIPES: Final = 3
"""The status of HELLO that says why there are no sessions."""

SETUP: Final = f"""\
umask 077
for base in {" ".join(BASES)}; do
  mkdir "$base/$1" 2>/dev/null && break
done
cd "$base/$1" && mkfifo in status || exit
[ -x /bin/bash ] && program=bash || program=sh
printf '%s\\n' "$base/$1" "/bin/$program"
"""
"""Makes the folder. Argument: its name. Prints its path, and the shell to use."""

MAIN: Final = """\
folder=$1
shift
"$@" 0<>"$folder/in"
status=$?
printf %s "$status" >"$folder/ended"
echo - 1<>"$folder/status"
exec 0<>"$folder/in"
while :; do read -r _; done
"""
"""Runs the shell. Arguments: the folder; the shell with its options. When the shell has ended, this
stays, so that what it left in the background can be killed with it."""

_INIT: Final = f"""\
command set +m
command set +o history
command set +o emacs
command set +o vi
command set -o ignoreeof
command unset PS1 ENV HISTFILE
command trap : PIPE
command trap "command trap - INT; command kill -INT \\$\\$" {ABORT}
"""

HELLO: Final = f"""\
[ -p /proc/self/fd/1 ] && [ -p /proc/self/fd/2 ] || exit {NO_PIPES}
exec 3<>"$1/status" || exit
printf '%s' '{_INIT}' "command printf '%s %s\\\\n' $2 \\$\\$ 1<>'$1/status'
" >"$1/in"
[ -e "$1/ended" ] && exit 1
while read -r token pid <&3; do
  case $token in "$2") echo "$pid"; exit 0 ;; -) exit 1 ;; esac
done
"""
"""Readies the shell and prints its pid. Arguments: the folder, a token.
1: the shell has ended; 3: the runtime gives commands no pipes, which the shell could open."""

_RUN: Final = """\
lost() { kill -KILL $$; }
command exec 3<>"$1/status" 4>&1 5>&2 || lost
[ -p "$1/status" ] && [ -p "$1/in" ] && [ ! -e "$1/ended" ] || lost
TEXT >"$1/text" || lost
jobs=
{ read -r jobs <"/proc/$3/task/$3/children"; } 2>/dev/null
printf '%s\\n' "$jobs" >"$1/jobs" || lost
last=
[ "$4" = 0 ] || last="(exit $4); "
printf '%s\\n' "${last}command . '$1/text' </dev/null >/proc/$$/fd/4 2>/proc/$$/fd/5" \\
  "command printf '%s %s\\n' $2 \\$? 1<>'$1/status'" 1<>"$1/in"
while read -r token status <&3; do
  case $token in "$2") exit "$status" ;; -) lost ;; esac
done
lost
"""
RUN: Final = _RUN.replace("TEXT", "printf '%s\\n' \"$5\"")
"""Runs a command. Arguments: the folder, a token, the shell's pid, the last status, the command.
Ends with its status; with SIGKILL when it has none to tell."""
RUN_LONG: Final = _RUN.replace("TEXT", "cat")
"""The same, with the command on stdin."""

RECOVER: Final = f"""\
command exec 3<>"$1/status" || exit
jobs= seen=" "
read -r jobs <"$1/jobs"
below() {{
  new= queue=$1
  while [ -n "$queue" ]; do
    next=
    for one in $queue; do
      for list in "/proc/$one/task/"*/children; do
        kids=
        {{ read -r kids <"$list"; }} 2>/dev/null
        for kid in $kids; do
          case " $jobs " in *" $kid "*) continue ;; esac
          next="$next $kid"
          case "$seen" in *" $kid "*) ;; *) new="$new $kid" ;; esac
        done
      done
    done
    queue=$next
  done
}}
sweep() {{
  below "$1"
  while [ -n "$new" ]; do
    kill -STOP $new 2>/dev/null
    seen="$seen$new "
    below "$1"
  done
  kill -KILL $seen 2>/dev/null
}}
kill -{ABORT} "$3"
sweep "$3"
[ -e "$1/ended" ] && exit 1
printf '%s\\n' "command printf '%s\\n' $2 1<>'$1/status'" 1<>"$1/in"
while read -r token _ <&3; do
  case $token in "$2") sweep "$3"; exit 0 ;; -) exit 1 ;; esac
done
"""
"""Has the shell drop its command, and kills what that started. Arguments: the folder, a token, the
shell's pid. All are stopped before any is killed, so that none goes on when its child is gone. 0:
the shell is ready for the next command."""

ENDED: Final = 'cat "$1/ended"'
"""Prints the status of a shell that has ended."""
REMOVE: Final = 'rm -rf "$1"'
"""Removes the folder."""
