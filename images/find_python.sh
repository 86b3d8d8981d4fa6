#!/bin/sh
# Print the path of a Python >= 3.11 with venv on this machine; PYTHON=... is tried first.
# Then the distribution's own, which is compiled with profile-guided optimization.  The builds of
# version managers usually are not: with one of them, tick to ACK took 15 % longer.
# Candidates are run, not only looked up: a version manager's shim may exist and fail.
for candidate in "${PYTHON:-}" /usr/bin/python3 python3.13 python3.12 python3.11 python3 \
        /usr/local/bin/python3; do
    [ -n "$candidate" ] || continue
    "$candidate" -c '
import ensurepip, os, shutil, sys, sysconfig, venv
sys.version_info >= (3, 11) or sys.exit(1)
# The kernel needs Python.h; on Debian venv.sh can download it.
header = os.path.join(sysconfig.get_path("include"), "Python.h")
os.path.exists(header) or shutil.which("apt-get") or sys.exit(1)
print(sys.executable)' 2>/dev/null && exit 0
done
echo "no Python >= 3.11 with venv and headers found; on Debian: apt-get install python3 python3-venv" >&2
exit 1
