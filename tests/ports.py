"""A port for a server of a test."""

import socket

from pipeline.servers.ui import HOST


def own_port() -> int:
    """A free port that no other worker of these tests is given too."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
