"""Runs a command within limits: ``limited.py CPU_SECONDS WALL_SECONDS BYTES REPORT COMMAND...``

REPORT becomes a JSON file with the command's exit status (minus the signal that ended it), whether
time ran out by the clock, CPU seconds, and the peak memory in KiB. It is a program of its own, and
imports little, because a process's peak memory counts that of the process it was forked from.
"""

import contextlib
import json
import os
import resource
import signal
import sys

cpu, wall, memory, report, *command = sys.argv[1:]
child = os.fork()
if child == 0:
    try:
        os.setpgid(0, 0)
        resource.setrlimit(resource.RLIMIT_CPU, (int(cpu), int(cpu) + 1))
        resource.setrlimit(resource.RLIMIT_AS, (int(memory), int(memory)))
        os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)

with contextlib.suppress(OSError):
    os.setpgid(child, child)  # whichever of the two comes first
expired = False


def expire(*_: object) -> None:
    """End the command with all that it started."""
    global expired
    expired = True
    os.killpg(child, signal.SIGKILL)


# Its caller's end is the command's end, too.
for ending in (signal.SIGALRM, signal.SIGTERM, signal.SIGINT):
    signal.signal(ending, expire)
signal.alarm(int(wall))
_, status, usage = os.wait4(child, 0)
signal.alarm(0)
found = {
    "code": os.waitstatus_to_exitcode(status),
    "expired": expired,
    "cpu": usage.ru_utime + usage.ru_stime,
    "memory": usage.ru_maxrss,
}
with open(report, "w") as file:
    json.dump(found, file)
