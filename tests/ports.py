"""A port for a server of a test."""

import random
import socket

from pipeline.servers.ports import HOST

OURS = range(61_000, 65_536)  # above those that Linux gives to who connects, or asks for any


def own_port() -> int:
    """A free port that no other process of these tests is given too, for as long as this one runs."""
    for port in random.SystemRandom().sample(OURS, len(OURS)):
        name = socket.socket(socket.AF_UNIX)
        try:
            name.bind(f"\0seedbed-test-port-{port}")  # of no file: it goes with this process, however that ends
            with socket.socket() as probe:
                probe.bind((HOST, port))
        except OSError:
            name.close()
            continue
        name.detach()  # it stays open, and says nothing when it goes
        return port
    raise AssertionError("no port is free")
