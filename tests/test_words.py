"""The words of `train` and `sweep`: help, Hydra's options, and what looks odd but is right."""

import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline import __version__
from pipeline.checks import TAKES
from pipeline.cli import cli
from pipeline.composing.sentences import GROUPS, SECTIONS
from tests.conftest import in_process, seedbed
from tests.progress import complaints

CONTRACT = [
    "data.X",
    "data.y",
    "data.scaling",
    "network.hidden",
    "network.activation",
    "network.output_activation",
    "network.bias",
    "init.scheme",
    "init.scale",
    "init.low",
    "init.high",
    "init.generator",
    "init.skip_networks",
    "init.weights",
    "training.learning_rate",
    "training.epochs",
    "training.loss",
    "training.metrics",
    "training.derivative",
    "training.batch_size",
    "seed",
    "numerics",
    "tracking.uri",
    "tracking.experiment",
    "tracking.artifacts",
    "tracking.curve_points",
    "executor",
]


@pytest.fixture(autouse=True)
def _command_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["pytest"])


def said(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command prints that succeeds, with no more on standard error than a note on names that do not fit."""
    code = in_process(shlex.split(command), folder)
    found = capsys.readouterr()
    told = complaints(found.err).splitlines()
    assert (code, [line for line in told if not line.startswith("note: data.")]) == (0, [])
    return found.out


@pytest.mark.parametrize("verb", cli.commands)
def test_every_verb_has_help_that_is_printed_as_written(
    verb: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = said(f"{verb} --help", tmp_path, capsys)
    assert said(f"{verb} -h", tmp_path, capsys) == text
    assert text.startswith(f"Usage: seedbed {verb}")
    written = inspect.cleandoc(cli.commands[verb].help or "").splitlines()
    assert len(written[0]) > 20
    assert "\n".join(f"  {line}".rstrip() for line in written) in text
    assert "\\b" not in text
    assert max(map(len, text.splitlines())) <= 120


@pytest.mark.parametrize("words", ["", "--help", "-h"])
def test_help_names_the_verbs(words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(words, tmp_path, capsys)
    assert [verb for verb in cli.commands if f"\n  {verb} " not in text] == []


def test_the_help_of_train_names_every_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said("train --help", tmp_path, capsys)
    for group, names in GROUPS.items():
        line = next(line for line in text.splitlines() if f" {group}=" in line)
        assert [name for name in names if group != "experiment" and name not in line] == []


def test_the_tab_key_completes_verbs(tmp_path: Path) -> None:
    script = 'eval "$(_SEEDBED_COMPLETE=bash_source seedbed)" && type _seedbed_completion'
    asked = "COMP_WORDS='seedbed re' COMP_CWORD=1 _SEEDBED_COMPLETE=bash_complete seedbed"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "-c", f"{script} > /dev/null && {asked}"]
    done = subprocess.run(words, cwd=tmp_path, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["plain,recover", "plain,register", "plain,report", "plain,reproduce"]


def test_version(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert said("--version", tmp_path, capsys) == f"seedbed, version {__version__}\n"


def test_cfg_job_prints_every_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load(said("train --cfg job", tmp_path, capsys))
    for key in [*CONTRACT, *(key for key in TAKES if key not in SECTIONS)]:
        node: Any = config
        for part in key.split("."):
            assert part in node, key
            node = node[part]
    assert set(config) == {*SECTIONS, "seed", "numerics", "register"}
    assert not list(tmp_path.iterdir())


def test_cfg_job_resolve_prints_the_values(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load(said("train --cfg job --resolve data=exam seed=7", tmp_path, capsys))
    assert config["tracking"]["uri"] == "sqlite:///mlflow.db"
    assert config["tracking"]["experiment"] == "exam"
    assert config["seed"] == 7


@pytest.mark.parametrize(
    ("command", "part"),
    [
        ("train --cfg=job --package network", "# @package network\nhidden:\n- 4\n"),
        ("train -c job -p training.epochs", "1000"),
        ("train seed=7 --cfg job data=exam -p seed", "7"),
        ("train --cfg hydra", "hydra/launcher: stacked"),
    ],
)
def test_hydras_options(command: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert part in said(command, tmp_path, capsys)


@pytest.mark.parametrize(
    ("words", "part"), [("--info", "Config search path"), ("-i defaults-tree experiment=exam", "experiment: exam")]
)
def test_hydras_info(words: str, part: str, tmp_path: Path) -> None:
    done = seedbed("train", *words.split(), cwd=tmp_path)  # it turns on logging for the rest of a process
    assert done.returncode == 0
    assert part in done.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("training.learning_rate=1e-3", "4 lr0.001 s0: half_sse"),
        ("seed=4294967295", "s4294967295"),
        ("network.hidden=[]", "none lr0.5"),
        ("network.hidden.0=3", "3 lr0.5"),
        ("training.epochs=0", "after 0 updates"),
        ("training.epochs=9 training.epochs=2", "after 2 updates"),
        ("'training={epochs: 2}'", "after 2 updates"),
        ("data=cat_shop data.y=[0,1,1,0]", "customer 4"),
        ("data.X=[[0,0],[0,1],[1,0],[1,1]] data.y=[[0],[1],[1],[0]]", " 1 1 "),
        ("'data={name: other}'", "Alejandra"),
        ("'data.name=\"a=b, ☃\"'", "Alejandra"),
        ("data.name=5", "Alejandra"),
        ("data.scaling=divide data.divide_by=[1,2,3,4]", "Alejandra"),
        ("++seed=5", "s5"),
        ("~experiment", "4 lr0.5 s0"),
        ("'training.learning_rate=${training.epochs}' training.epochs=2", "lr2 s0"),
        ("hydra/launcher=basic", "4 lr0.5 s0"),
        ("hydra.mode=MULTIRUN", "4 lr0.5 s0"),
        ("experiment=architectures network.hidden=[2] training.learning_rate=1 seed=3", "2 lr1 s3"),
        ("training.metrics=[]", "4 lr0.5 s0"),
        ("data.rows=null", "0.4 0.8 0.4 0.3"),
    ],
)
def test_what_looks_odd_but_is_right(words: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert part in said(f"train training.epochs=3 tracking=none {words}", tmp_path, capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "part"),
    [
        ("", "1 runs: 1 trained"),
        ("'data=glob(*,exclude=csv)'", "Sweep cat_shop: 1 runs"),
        ("experiment=happiness,exam", "Sweep exam: 1 runs"),
        ("'seed=range(3,0,-1)'", "3 runs: 3 trained"),
        ("seed=1,1,2", "(1 duplicates dropped)"),
        ("network.hidden=[],[2],[2,2]", "3 runs: 3 trained"),
        ("'tracking.experiment=\"x-${seed}\"' seed=0,1", "Sweep x-1: 1 runs"),
        ("hydra.sweeper.max_batch_size=2 seed=0,1,2", "1 runs: 1 trained"),
        ("hydra/launcher=basic seed=0,1", "4 lr0.5 s1"),
        ("hydra.mode=RUN seed=0,1", "2 runs: 2 trained"),
        ("'hydra.sweeper.params={seed: \"1,2\"}'", "2 runs: 2 trained"),
        ("'hydra.sweeper.params={seed: \"1,2\"}' seed=7", "1 runs: 1 trained"),
    ],
)
def test_what_looks_odd_in_a_sweep(words: str, part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert part in said(f"sweep training.epochs=3 tracking.uri=null {words}", tmp_path, capsys)
    assert not list(tmp_path.iterdir())


def test_hydras_own_sweeper_gives_the_same_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = said("sweep hydra/sweeper=basic seed=0,1 training.epochs=3 tracking=none", tmp_path, capsys)
    assert "2 runs: 2 trained" in text
    assert [path.name for path in tmp_path.iterdir()] == ["multirun.yaml"]


@pytest.mark.slow
def test_train_without_a_word(tmp_path: Path) -> None:
    done = seedbed("train", cwd=tmp_path)
    assert (done.returncode, complaints(done.stderr)) == (0, "")
    assert "4 lr0.5 s0: half_sse 0.0122752 after 1000 updates." in done.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow-artifacts", "mlflow.db"]
