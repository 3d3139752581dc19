"""The shell scripts of ``exec_files``: POSIX sh, tried with dash, bash and busybox.

Paths are absolute and come as arguments, so none is taken for an option. A script that fails ends
with another status than 0, and its reason is the end of what stands on stderr.
"""

from __future__ import annotations

from typing import Final

COMPLAINT_BYTES: Final = 4096
"""Bytes of a failed script's stderr that are looked at."""

FAIL: Final = """
fail() { printf 'openrt: %s\\n' "$1" >&2; exit 1; }
"""
_NUMBERS: Final = "%f %s %Y %u %g"

READ: Final = f"""{FAIL}
# A FIFO or a device may never end.
if [ -e "$1" ] && [ ! -f "$1" ] && [ ! -d "$1" ]; then fail 'Not a regular file'; fi
exec cat "$1"
"""

# Arguments: path, a random word, mode or "". A link is followed once; then a new file in its folder
# takes its place.
RESOLVE: Final = f"""{FAIL}
p=$1 mode=$3
if [ -L "$p" ]; then
  link=$(readlink -n "$p" && printf x) || exit
  link=${{link%x}}
  case $link in /*) p=$link ;; *) p=${{p%/*}}/$link ;; esac
fi
folder=${{p%/*}}
new=$folder/.openrt-$2
"""
BEGIN: Final = """
[ -d "$p" ] && fail 'Is a directory'
if [ ! -d "${folder:-/}" ]; then
  [ -e "$folder" ] && fail 'Not a directory'
  umask 022
  mkdir -p "$folder" || exit
fi
umask 077
(set -C; : >"$new") || exit
"""
REMOVE_AT_END: Final = """
trap 'rm -f "$new"' EXIT
"""
FINISH: Final = """
if [ -f "$p" ] && [ -z "$mode" ]; then mode=$(stat -c %a "$p") || exit; fi
chmod "${mode:-644}" "$new" || exit
# What is mounted by itself cannot be replaced, and a device or a FIFO is not meant to be.
if [ ! -e "$p" ] || [ -f "$p" ]; then mv -f "$new" "$p" 2>/dev/null && exit 0; fi
cat "$new" >"$p" || exit
if [ -f "$p" ]; then chmod "${mode:-644}" "$p" || exit; fi
rm -f "$new"
"""
_PRINT: Final = """
printf "$4" >>"$new" || exit
"""

WRITE: Final = f"""{RESOLVE}{BEGIN}{REMOVE_AT_END}
cat >"$new" || exit
{FINISH}"""
WRITE_ARGUMENT: Final = f"{RESOLVE}{BEGIN}{REMOVE_AT_END}{_PRINT}{FINISH}"
WRITE_BEGIN: Final = f"{RESOLVE}{BEGIN}"
WRITE_PART: Final = f"{RESOLVE}{_PRINT}"
WRITE_END: Final = f"{RESOLVE}{REMOVE_AT_END}{FINISH}"
WRITE_UNDO: Final = f"""{RESOLVE}
rm -f "$new"
"""

STAT: Final = f"""
stat -c '{_NUMBERS}' "$1" || exit
if [ -L "$1" ]; then printf '\\0'; exec readlink -n "$1"; fi
"""
STAT_FOLLOWED: Final = f"""
exec stat -L -c '{_NUMBERS}' "$1"
"""

# The shell's own patterns know all names; stat takes them in batches that fit an argument list.
LIST: Final = f"""{FAIL}
command -v stat >/dev/null || exit 127
ls -d "$1/." >/dev/null || exit
cd -P "$1" || exit
[ -r . ] || fail 'Permission denied'
show() {{
  stat -c '{_NUMBERS}/%n/' "$@"
  for f do
    if [ -L "$f" ]; then printf '\\0%s\\0' "$f"; readlink -n "$f"; printf '\\0'; fi
  done
}}
all() {{
  # A pattern that matches nothing stands for itself.
  [ -e "$1" ] || [ -L "$1" ] || shift
  while [ $# -gt 0 ]; do
    n=$# i=1 batch=
    [ $n -gt 500 ] && n=500
    while [ $i -le $n ]; do batch="$batch \\"\\${{$i}}\\""; i=$((i + 1)); done
    eval "show $batch"
    shift $n
  done
}}
{{ all ./*; all ./.[!.]*; all ./..?*; }} 2>/dev/null
exit 0
"""

_MUST_EXIST: Final = """
[ -e "$1" ] || [ -L "$1" ] || { ls -d "$1"; exit 1; }
"""

REMOVE: Final = f"""{_MUST_EXIST}
if [ -L "$1" ] || [ ! -d "$1" ]; then exec rm -f "$1"; fi
if [ "$2" ]; then exec rm -rf "$1"; fi
exec rmdir "$1"
"""

# mv alone would move into a folder that is at the target.
RENAME: Final = f"""{FAIL}{_MUST_EXIST}
if [ -d "$1" ] && [ ! -L "$1" ]; then
  if [ -L "$2" ] || {{ [ -e "$2" ] && [ ! -d "$2" ]; }}; then fail 'Not a directory'; fi
  [ "$1" -ef "$2" ] && exit 0
  if [ -d "$2" ]; then rmdir "$2" || exit; fi
elif [ -d "$2" ]; then
  [ -L "$2" ] || fail 'Is a directory'
  rm -f "$2" || exit
fi
exec mv -f "$1" "$2"
"""

# Arguments: path, mode, "p" with parents, "e" when it may exist.
MAKE_DIRECTORY: Final = f"""{FAIL}
if [ -d "$1" ]; then
  [ "$4" ] && exit 0
  fail 'File exists'
fi
folder=${{1%/*}}
if [ "$3" ] && [ ! -d "${{folder:-/}}" ]; then
  [ -e "$folder" ] && fail 'Not a directory'
  umask 022
  mkdir -p "$folder" || exit
fi
exec mkdir -m "$2" "$1"
"""
