"""The shell scripts of ``exec_transfer``; see ``exec_scripts``."""

from __future__ import annotations

from typing import Final

from openrt_core.exec_scripts import BEGIN, FAIL, FINISH, REMOVE_AT_END, RESOLVE

# Arguments: path, a random word, mode, the name that a file gets in a folder, size, time.
_INTO: Final = """
if [ -d "$1" ]; then path=${1%/}/$4; shift; set -- "$path" "$@"; fi
"""

_CHECK: Final = """
[ "$(stat -c %s "$new")" = "$5" ] || fail 'Input/output error'
touch -d "@$6" "$new" || exit
"""

UPLOAD: Final = f"""{_INTO}{RESOLVE}{BEGIN}{REMOVE_AT_END}
cat >"$new" || exit
{_CHECK}{FINISH}"""
UPLOAD_BEGIN: Final = f"{_INTO}{RESOLVE}{BEGIN}"
UPLOAD_PART: Final = f"""{_INTO}{RESOLVE}
printf "$7" >>"$new" || exit
"""
UPLOAD_END: Final = f"{_INTO}{RESOLVE}{REMOVE_AT_END}{_CHECK}{FINISH}"
UPLOAD_UNDO: Final = f"""{_INTO}{RESOLVE}
rm -f "$new"
"""

_TAR: Final = f"""{FAIL}
unset TAR_OPTIONS TAPE POSIXLY_CORRECT
need_tar() {{
  command -v tar >/dev/null || {{ echo 'openrt: no tar' >&2; exit 127; }}
}}
"""

# Arguments: path, mode and time of the folder when it is made here, a script that sets modes.
UNPACK: Final = f"""{_TAR}
need_tar
made=
if [ ! -d "$1" ]; then
  if [ -e "$1" ] || [ -L "$1" ]; then fail 'Not a directory'; fi
  umask 022
  mkdir -p "$1" || exit
  made=1
fi
cd "$1" || exit
umask 0
tar -x -p -o -f - || exit
if [ -f "$4" ]; then
  . "./$4"
  rm -f "$4" || exit
fi
if [ "$made" ]; then
  touch -d "@$3" . && chmod "$2" . || exit
fi
"""

# One line of numbers, then the file; for a folder an empty line, then its archive.
DOWNLOAD: Final = f"""{_TAR}
if [ -d "$1" ]; then
  need_tar
  cd "$1" || exit
  [ -r . ] || fail 'Permission denied'
  echo
  exec tar -c -f - .
fi
if [ -e "$1" ] && [ ! -f "$1" ]; then fail 'Not a regular file'; fi
stat -L -c '%a %s %Y' "$1" || exit
exec cat "$1"
"""
