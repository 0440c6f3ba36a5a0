"""Hosts on this machine: Linux network namespaces, joined by a switch that is a namespace too.

    with Hosts(["server", "laptop"]) as hosts:
        with hosts.inside("server"):
            ...  # what this thread starts or connects to here is on that host
        with hosts.cut("laptop"):
            ...  # its cable is out: packets go nowhere, as in a real network, and nobody is told

Nothing of it is seen in the machine's own network, so addresses collide with nothing. Names have this process's id;
what a killed process left is cleared away by the next.
"""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import pytest

PREFIX = "seedbed-test-"
NETWORK = "10.77.0"
NAMED = Path("/run/netns")
NEW_NETWORK = 0x40000000  # CLONE_NEWNET
SWITCH = "switch"


class Hosts:
    """Hosts with these names, each with loopback and an address in one network, until the block ends."""

    def __init__(self, names: Sequence[str]) -> None:
        self.names = list(names)

    def __enter__(self) -> "Hosts":
        """Makes them. Raises CalledProcessError if that is not allowed here."""
        clear_stale()
        try:
            for name in (SWITCH, *self.names):
                ip("netns", "add", full(name))
                ip("-n", full(name), "link", "set", "lo", "up")
            ip("-n", full(SWITCH), "link", "add", "bridge", "type", "bridge")
            ip("-n", full(SWITCH), "link", "set", "bridge", "up")
            for name in self.names:
                self._plug_in(name)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in (*self.names, SWITCH):
            if (NAMED / full(name)).exists():
                ip("netns", "delete", full(name))

    def _plug_in(self, name: str) -> None:
        switch, host = full(SWITCH), full(name)
        ip("-n", switch, "link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", host)
        ip("-n", switch, "link", "set", name, "master", "bridge", "up")
        ip("-n", host, "address", "add", f"{self.address(name)}/24", "dev", "eth0")
        ip("-n", host, "link", "set", "eth0", "up")

    def address(self, name: str) -> str:
        """Where a host is to be reached by the others."""
        return f"{NETWORK}.{1 + self.names.index(name)}"

    @contextlib.contextmanager
    def inside(self, name: str) -> Iterator[None]:
        """Has this thread, and what it starts, be on a host during the block."""
        with Path("/proc/thread-self/ns/net").open() as own, (NAMED / full(name)).open() as there:
            enter(there.fileno())
            try:
                yield
            finally:
                enter(own.fileno())

    @contextlib.contextmanager
    def cut(self, name: str) -> Iterator[None]:
        """Takes a host off the network during the block. Its connections stay open, as far as it knows."""
        ip("-n", full(SWITCH), "link", "set", name, "down")
        try:
            yield
        finally:
            ip("-n", full(SWITCH), "link", "set", name, "up")


@contextlib.contextmanager
def hosts_or_skip(names: Sequence[str]) -> Iterator[Hosts]:
    """Hosts with these names. Skips, with the reason, where they cannot be made."""
    if os.geteuid() != 0:
        pytest.skip("network namespaces are for root only")
    if shutil.which("ip") is None:
        pytest.skip("there is no command `ip` (on Debian: apt-get install iproute2)")
    with contextlib.ExitStack() as stack:
        try:
            hosts = stack.enter_context(Hosts(names))
        except subprocess.CalledProcessError as error:
            pytest.skip(f"no network namespaces can be made here: {error.stderr.strip()}")
        yield hosts


def ip(*words: str) -> str:
    """Calls the command `ip` and returns what it prints. Raises CalledProcessError."""
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def full(name: str, pid: int | None = None) -> str:
    """What a host's namespace is called on the machine."""
    return f"{PREFIX}{pid or os.getpid()}-{name}"


def enter(network: int) -> None:
    """Moves this thread to another network namespace, an open file. `os.setns` came with Python 3.12."""
    library = ctypes.CDLL(None, use_errno=True)
    if library.setns(network, NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "setns")


def clear_stale() -> None:
    """Ends what killed tests left: the processes on their hosts, and the hosts."""
    for namespace in NAMED.glob(f"{PREFIX}*"):
        pid = namespace.name.removeprefix(PREFIX).partition("-")[0]
        if Path("/proc", pid).exists():
            continue
        with contextlib.suppress(subprocess.CalledProcessError):  # another test clears it away, too
            for left in ip("netns", "pids", namespace.name).split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(left), signal.SIGKILL)
            ip("netns", "delete", namespace.name)
