#!/bin/sh
# health PAUSE_S COMMAND...: a container's health check that is rare once it has succeeded.
#
# A check starts two processes through the engine, 60 ms of CPU.  Three of them a second made the
# slowest percent of orders wait half as long again on two cores.  Only engines from version 25 on
# have a pace of their own for the start (start_interval), so here who was healthy is left alone for
# PAUSE_S before the next look.
mark=${TMPDIR:-/tmp}/healthy
pause_s=$1
shift
# The mark goes first: after a failure, or a pause that was cut off, the next look is at once.
if rm "$mark" 2>/dev/null; then sleep "$pause_s"; fi
timeout -k 1 10 "$@" || exit 1
touch "$mark" 2>/dev/null || true
