#!/bin/sh
# Print a Python >= 3.11 with venv that is on this machine; PYTHON=... is tried first.
# Then the distribution's own: that is compiled with profile-guided optimisation, which the builds of
# version managers usually lack: from tick to ACK such a one took 15 % longer.
# Candidates are run, not just looked up: a version manager's stand-in may be there and fail.
for candidate in "${PYTHON:-}" /usr/bin/python3 python3.13 python3.12 python3.11 python3 \
        /usr/local/bin/python3; do
    [ -n "$candidate" ] || continue
    "$candidate" -c '
import ensurepip, os, shutil, sys, sysconfig, venv
sys.version_info >= (3, 11) or sys.exit(1)
# Without Python.h no kernel; on Debian it can be had (venv.sh).
header = os.path.join(sysconfig.get_path("include"), "Python.h")
os.path.exists(header) or shutil.which("apt-get") or sys.exit(1)
print(sys.executable)' 2>/dev/null && exit 0
done
echo "no Python >= 3.11 with venv and headers found; on Debian: apt-get install python3 python3-venv" >&2
exit 1
