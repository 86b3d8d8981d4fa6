#!/bin/sh
# Reduce the root file system of a Debian-based Python image to what its processes, their health checks
# and a person with a shell need: Python, libraries, sh, coreutils, find, grep, sed, certificates.
# Whoever breaks into a process finds no package manager, no interpreter but Python, no file that
# changes the user.  The Dockerfile copies the result into an empty image, so what is removed here is
# in no layer.  dpkg removes the packages, itself last, so its list of packages stays true (for SBOMs).
set -eu
cd /

unwanted="apt libapt-pkg* sqv gpgv debian-archive-keyring
    perl perl-* libperl* lib*-perl debconf libdebconfclient0
    passwd login login.defs mount util-linux util-linux-extra bsdutils libpam-runtime libpam-modules
    libpam-modules-bin libpam0g libaudit1 libaudit-common libsemanage2 libsemanage-common libsepol2
    liblastlog2-2 libcap-ng0 init-system-helpers sysvinit-utils hostname
    bash mawk tar gzip diffutils ncurses-bin openssl openssl-provider-legacy dpkg"
info=/var/lib/dpkg/info
present=
for pattern in $unwanted; do
    for list in "$info"/$pattern.list "$info"/$pattern:*.list; do
        [ -e "$list" ] || continue
        package=${list#"$info"/}
        present="$present ${package%.list}"
        # Their scripts need packages that go, too.
        rm -f "${list%.list}.prerm" "${list%.list}.postrm"
    done
done
log=$(mktemp)
# shellcheck disable=SC2086  # a list of words
if ! dpkg --purge --force-all $present >"$log" 2>&1; then
    cat "$log"
    exit 1
fi

# What packages leave behind, and what no package of Debian's owns.
rm -rf "$log" /etc/apt /var/lib/apt /var/cache/apt /var/cache/debconf /var/log/* /var/lib/dpkg/*-old \
    /etc/dpkg /usr/share/man /usr/share/locale /usr/share/perl* /usr/share/bash-completion \
    /usr/local/bin/pip* /usr/local/bin/idle* /usr/local/bin/*-config /usr/local/include \
    /usr/local/lib/pkgconfig /root/.cache
for lib in /usr/local/lib/python3* /usr/lib/python3*; do
    rm -rf "$lib"/ensurepip "$lib"/idlelib "$lib"/tkinter "$lib"/turtledemo "$lib"/lib2to3 \
        "$lib"/*-packages/pip "$lib"/*-packages/pip-* "$lib"/*-packages/setuptools* \
        "$lib"/*-packages/wheel*
done
find /etc/alternatives /usr/bin /usr/sbin /usr/local/bin -xtype l -delete
find / -xdev ! -type l -perm /6000 -exec chmod a-s {} +
chmod go-w /run/lock

# Python is whole: these modules load libraries of Debian's.
python3 -c 'import bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib, zoneinfo'
rm -f "$0"
