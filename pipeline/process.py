"""Names a process so that another one can tell later whether it is gone: a pid alone is given out again."""

import contextlib
import functools
import hashlib
import json
import os
import socket
import subprocess
from pathlib import Path

MACHINE = ("host", "machine", "boot", "namespace")
FIRST_NAMESPACE = (
    "pid:[4026531836]"  # of pids on a Linux machine itself, outside of containers: a number of the kernel's
)
ENDED = ("Z", "X")  # states of a process that has ended but was not waited for


def this_process() -> str:
    """A text (JSON) for `is_gone`: this process, its machine, boot and pid namespace, its pid, and when it started."""
    pid = os.getpid()
    return json.dumps({**this_machine(), "pid": pid, "started": state_and_start(pid)[1]})


def is_gone(text: str) -> bool:
    """True if the process that a text of `this_process` names has surely ended; False where there is any doubt."""
    try:
        told = json.loads(text)
        machine, pid, started = {key: str(told[key]) for key in MACHINE}, int(told["pid"]), str(told["started"])
    except (ValueError, TypeError, KeyError):
        return False
    if machine == this_machine():
        return started != "" and 0 < pid < 2**31 and has_ended(pid, started)
    return is_rebooted(machine)


def has_ended(pid: int, started: str) -> bool:
    """True if no process of this machine has this pid, or one that has started at another time, or a zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # another user's
    state, start = state_and_start(pid)
    return state.startswith(ENDED) or start not in ("", started)  # none: it hides, or has ended just now


def is_rebooted(machine: dict[str, str]) -> bool:
    """True if this is the machine described, started anew since. Containers are alike too often to tell."""
    here = this_machine()
    same = all(machine[key] == here[key] != "" for key in ("host", "machine"))
    bare = machine["namespace"] == here["namespace"] == FIRST_NAMESPACE
    return same and bare and "" not in (machine["boot"], here["boot"]) and machine["boot"] != here["boot"]


@functools.cache
def this_machine() -> dict[str, str]:
    """What tells the pids of this machine, since it was started, from all others; empty texts where it has no such."""
    identity = read("/etc/machine-id")
    namespace = ""
    with contextlib.suppress(OSError):
        namespace = os.readlink("/proc/self/ns/pid")
    return {
        "host": socket.gethostname(),
        "machine": identity and hashlib.sha256(identity.encode()).hexdigest()[:12],  # it is not for others to see
        "boot": read("/proc/sys/kernel/random/boot_id"),
        "namespace": namespace,
    }


def state_and_start(pid: int) -> tuple[str, str]:
    """A process's state letter and when it started, in the system's own words; empty where that cannot be seen."""
    if Path("/proc/self/stat").exists():
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name before it may have spaces
        return (fields[0], fields[19]) if fields else ("", "")
    words = ["ps", "-o", "stat=,lstart=", "-p", str(pid)]
    told = subprocess.run(words, env={**os.environ, "LC_ALL": "C"}, capture_output=True, text=True, check=False).stdout
    state, _, start = told.strip().partition(" ")
    return state, start.strip()


def read(file: str) -> str:
    """A small file's text without the white space around it, empty if it cannot be read."""
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
