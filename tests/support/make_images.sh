#!/usr/bin/env bash
# Make the file systems that the tests run in, and print the variables that tell the tests of them:
#
#   eval "$(tests/support/make_images.sh DIR)"
#
# DIR/busybox  static busybox and nothing else: no libc, no /workspace
# DIR/debian   Debian with glibc, bash, procps and Python with its whole standard library
#
# Where a Docker engine answers, both are imported as openrt-test/NAME:latest too. A second call does
# only what is missing. Needs root, busybox-static and mmdebstrap; packages come from the mirror that
# apt is set up with (run apt-get update before).
set -euo pipefail

if [ $# -ne 1 ]; then
    echo "usage: $0 DIR" >&2
    exit 2
fi
version=$(sha256sum "${BASH_SOURCE[0]}" | cut -c1-16)
mkdir -p "$1"
dir=$(cd "$1" && pwd)

# Two test runs may ask for the same folder at once: the second waits for the first.
exec 9>"$dir/.lock"
flock 9

say() { echo "make_images: $*" >&2; }

make_busybox() { # FOLDER
    local applet
    mkdir -p "$1"/{bin,dev,etc,proc,root,run,sbin,sys,tmp,usr/bin,usr/sbin,var/tmp}
    chmod 700 "$1/root"
    chmod 1777 "$1/tmp" "$1/var/tmp"
    cp -L "$(type -P busybox)" "$1/bin/busybox"
    chmod 755 "$1/bin/busybox"
    for applet in $("$1/bin/busybox" --list); do
        [ "$applet" = busybox ] || ln -s busybox "$1/bin/$applet"
    done
    printf '%s\n' 'root:x:0:0:root:/root:/bin/sh' 'nobody:x:65534:65534:nobody:/:/bin/false' \
        >"$1/etc/passwd"
    printf '%s\n' 'root:x:0:' 'nogroup:x:65534:' >"$1/etc/group"
}

debian_mirror() {
    local codename
    codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
    # Read first: cutting a pipe short would make apt-get fail.
    apt-get indextargets --format '$(REPO_URI) $(CODENAME) $(COMPONENT)' \
        'Created-By: Packages' 'Origin: Debian' |
        awk -v codename="$codename" '$2 == codename && $3 == "main" && !seen++ { print $2, $1 }'
}

make_debian() { # FOLDER
    local source
    source=$(debian_mirror)
    if [ -z "$source" ]; then
        say "apt has no list of Debian's packages: run apt-get update"
        return 1
    fi
    # shellcheck disable=SC2086  # two words: the suite and the mirror
    mmdebstrap --quiet --variant=essential --include=bash,procps,python3 \
        --dpkgopt='path-exclude=/usr/share/doc/*' \
        --dpkgopt='path-exclude=/usr/share/info/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' \
        --dpkgopt='path-exclude=/usr/share/man/*' \
        --customize-hook='rm -rf "$1"/var/cache/* "$1"/var/lib/apt "$1"/var/log/*' \
        --format=directory ${source% *} "$1" "${source#* }" >&2
}

folder() { # NAME: makes DIR/NAME unless it was made by this script as it is now
    local final=$dir/$1 half=$dir/.half-$1 stamp=$dir/.$1.version
    if [ -d "$final" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$version" ]; then
        return
    fi
    say "making $final"
    rm -rf "$stamp" "$half" "$final"
    "make_$1" "$half"
    mv "$half" "$final"
    echo "$version" >"$stamp"
}

image() { # NAME: imports DIR/NAME unless the engine has it from this script as it is now
    local tag=openrt-test/$1:latest label=openrt-test.version have
    have=$(docker image inspect --format "{{index .Config.Labels \"$label\"}}" "$tag" 2>/dev/null ||
        true)
    if [ "$have" != "$version" ]; then
        say "importing $tag"
        tar -C "$dir/$1" --numeric-owner -c . |
            docker import -c 'CMD ["/bin/sh"]' -c "LABEL $label=$version" - "$tag" >&2
    fi
    echo "export OPENRT_TEST_IMAGE_${1^^}=$tag"
}

engine=
if type -P docker >/dev/null && timeout 20 docker version >/dev/null 2>&1; then
    engine=yes
else
    say "no Docker engine answers: no images"
fi
for name in busybox debian; do
    folder "$name"
    printf 'export OPENRT_TEST_ROOTFS_%s=%q\n' "${name^^}" "$dir/$name"
    [ -z "$engine" ] || image "$name"
done
