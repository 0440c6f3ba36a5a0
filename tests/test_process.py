"""Whether a process is gone, asked of real processes: running, ended, zombies, other users'."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from pipeline.process import FIRST_NAMESPACE, is_gone, state_and_start, this_machine, this_process

CODE = "from pipeline.process import this_process; print(this_process(), flush=True); input()"


@pytest.fixture
def other() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Another process, that runs until it is ended, and what it says of itself."""
    with subprocess.Popen([sys.executable, "-c", CODE], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdout is not None
        yield process, process.stdout.readline()
        process.kill()


def changed(text: str, **values: object) -> str:
    return json.dumps(json.loads(text) | values)


def test_this_process_runs_and_names_itself_in_a_tag() -> None:
    assert not is_gone(this_process())
    assert json.loads(this_process())["pid"] == os.getpid()
    assert len(this_process()) < 500


def test_a_process_is_gone_when_it_has_ended_and_not_before(other: tuple[subprocess.Popen[str], str]) -> None:
    process, text = other
    assert not is_gone(text)
    process.kill()
    process.wait()
    assert is_gone(text)


def test_a_zombie_is_gone(other: tuple[subprocess.Popen[str], str]) -> None:
    process, text = other
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and still to be waited for
    assert state_and_start(process.pid)[0].startswith("Z")
    assert is_gone(text)


def test_a_pid_that_another_process_has_now_is_gone() -> None:
    """The pid is that of this process, which started at another time than is told."""
    assert is_gone(changed(this_process(), started="1"))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can start another user's process")
def test_another_users_process_is_seen(other: tuple[subprocess.Popen[str], str]) -> None:
    process, text = other
    code = "import os, sys; from pipeline.process import is_gone; os.setuid(65534); print(is_gone(sys.argv[1]))"

    def told() -> str:
        words = [sys.executable, "-c", code, text]
        return subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, timeout=300).stdout

    assert told() == "False\n"
    process.kill()
    process.wait()
    assert told() == "True\n"


@pytest.mark.parametrize("key", ["host", "machine", "boot", "namespace"])
def test_of_other_machines_and_containers_nothing_is_known(key: str) -> None:
    text = changed(this_process(), pid=2**22 + 1, **{key: "another"})
    assert is_gone(text) == (key == "boot" and is_bare())
    assert is_gone(changed(this_process(), pid=2**22 + 1)), "else nothing is shown here"


def is_bare() -> bool:
    machine = this_machine()
    return machine["namespace"] == FIRST_NAMESPACE and machine["machine"] != ""


def test_a_container_is_not_taken_for_a_machine_that_was_started_anew() -> None:
    assert not is_gone(changed(this_process(), boot="another", namespace="pid:[4026532000]"))
    assert not is_gone(changed(this_process(), boot=""))


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", "null", '{"host": "h"}', '"a"', "{", "1"])
def test_a_text_that_names_no_process_says_nothing(text: str) -> None:
    assert not is_gone(text)


@pytest.mark.parametrize(("key", "value"), [("pid", -1), ("pid", 0), ("pid", 2**40), ("pid", "x"), ("started", "")])
def test_a_process_that_cannot_be_is_not_gone(key: str, value: object) -> None:
    assert not is_gone(changed(this_process(), **{key: value}))
