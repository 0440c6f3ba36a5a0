"""`seedbed reproduce` and `seedbed diff`: identical is said only of what is, and what is not is named."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from mlflow import MlflowClient

from pipeline.compare.results import Selection, read_results
from pipeline.environment import command_line, environment
from pipeline.identity import NUMERICS_CODE, code_digest
from pipeline.prove.again import prove, ulps
from pipeline.prove.differ import differences
from pipeline.results.kept import KeptRun
from pipeline.results.record import npz, read_npz
from tests.conftest import copy_all, in_process, seedbed
from tests.factory import GROWING
from tests.progress import complaints

ROOT = Path(__file__).parents[1]


def copied(store: Path, tmp_path: Path) -> Path:
    """A store of our own: a copy with its files, which it finds beside it."""
    folder = tmp_path / "own"
    copy_all(store, folder)
    assert in_process(["train", "data=exam", "training.epochs=1"], folder) == 0  # mends what was copied
    return folder


def uri(folder: Path) -> str:
    return f"sqlite:///{folder}/mlflow.db"


def kept_runs(folder: Path, experiment: str | None = None) -> list[KeptRun]:
    results = read_results(uri(folder), Selection(experiment=experiment))
    return [results.kept(run_id) for run_id in results.run_ids]


def file_of(folder: Path, run_id: str, name: str) -> Path:
    (found,) = folder.glob(f"**/{run_id}/artifacts/{name}")
    return found


def told(words: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> str:
    capsys.readouterr()
    assert in_process(list(words), folder) == code
    caught = capsys.readouterr()
    return caught.out + complaints(caught.err)


@pytest.mark.parametrize("stacked", [False, True])
def test_kept_runs_are_identical_alone_and_in_stacks(store: Path, stacked: bool) -> None:
    kept = kept_runs(store) + kept_runs(store, experiment="happiness") + kept_runs(store, experiment="exam")
    proofs = prove(kept, stacked, lambda _: None)
    assert [proof.is_identical for proof in proofs] == [True] * 14
    assert [proof.run_id for proof in proofs] == [one.run_id for one in kept]
    assert len({proof.digest for proof in proofs}) == 14
    assert not any(proof.why for proof in proofs)


def test_the_command_says_identical(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = told(["reproduce"], store, capsys)
    assert text.count("IDENTICAL") == 12 + 1
    assert "12 runs: all IDENTICAL, to the bit." in text
    text = told(["reproduce", "--sample", "3", "--stacked"], store, capsys)
    assert text.count("IDENTICAL") == 3 + 1
    assert told(["reproduce", "--sample", "3", "--stacked"], store, capsys) == text, "the same sample each time"
    run_id = kept_runs(store, experiment="exam")[0].run_id
    assert "training 1 run again" in told(["reproduce", f"run={run_id}"], store, capsys)


def test_another_processor_makes_no_difference(store: Path) -> None:
    features = " ".join(np.show_config(mode="dicts")["SIMD Extensions"].get("found", []))
    before = os.environ.get("NPY_DISABLE_CPU_FEATURES")
    os.environ["NPY_DISABLE_CPU_FEATURES"] = features
    try:
        done = seedbed("reproduce", "--sample", "4", cwd=store)
    finally:
        os.environ.pop("NPY_DISABLE_CPU_FEATURES")
        if before is not None:
            os.environ["NPY_DISABLE_CPU_FEATURES"] = before
    assert done.returncode == 0, done.stderr
    assert "4 runs: all IDENTICAL" in done.stdout


def test_a_run_that_diverged_is_identical_too(empty_store: Path) -> None:
    words = [f"data.{key}={GROWING[key]}".replace(" ", "") for key in ("X", "y")]
    words += ["network.hidden=[]", "training.derivative=of_activation", "data.name=growing", "data.scaling=none"]
    words += ["data.target_scaling=none", "training.epochs=90", "training.learning_rate=1e307"]
    assert in_process(["train", *words], empty_store) == 0
    (kept,) = kept_runs(empty_store, experiment="growing")
    assert kept.diverged_at
    (proof,) = prove([kept], False, lambda _: None)
    assert proof.is_identical


def test_one_byte_that_was_changed_is_named(store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = copied(store, tmp_path)
    run_id = kept_runs(folder, experiment="exam")[0].run_id
    file = file_of(folder, run_id, "weights.npz")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    text = told(["reproduce", f"run={run_id}"], folder, capsys, 1)
    assert "weights.npz is not what was written" in text or "weights.npz of run" in text
    assert "error: The run is not what training gives now." in text


def test_a_weight_that_was_changed_is_found_to_the_element(store: Path, tmp_path: Path) -> None:
    folder = copied(store, tmp_path)
    (kept,) = [one for one in kept_runs(folder, experiment="exam") if one.updates > 1]
    file = file_of(folder, kept.run_id, "weights.npz")
    arrays = read_npz(file.read_bytes(), "weights.npz")
    arrays["W0"][1, 2] = np.nextafter(arrays["W0"][1, 2], 10.0)
    file.write_bytes(npz(arrays))
    (proof,) = prove([kept], False, lambda _: None)
    (difference,) = proof.differences
    assert (difference.array, difference.place, difference.ulps, difference.count) == (
        "W0",
        "layer 0, element [1, 2]",
        1,
        1,
    )
    assert "1 ulp apart (1 of 6 differ)" in str(difference)
    (fault,) = proof.faults
    assert fault.startswith("weights.npz is not what was written: its digest is ")
    curve = file_of(folder, kept.run_id, "loss.npz")
    curves = read_npz(curve.read_bytes(), "loss.npz")
    curves["loss"][17:] += 1.0
    curve.write_bytes(npz(curves))
    (proof,) = prove([kept], False, lambda _: None)
    assert next((one.file, one.array, one.place) for one in proof.differences) == ("loss.npz", "loss", "update 17")


@pytest.mark.parametrize(("name", "content"), [("loss.npz", b"PK"), ("weights.npz", b""), ("config.yaml", b"- 1")])
def test_a_file_that_was_cut_is_named(
    store: Path, tmp_path: Path, name: str, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = copied(store, tmp_path)
    run_id = kept_runs(folder, experiment="exam")[0].run_id
    file_of(folder, run_id, name).write_bytes(content)
    text = told(["reproduce", f"run={run_id}"], folder, capsys, 1)
    assert name in text
    assert "Traceback" not in text


def test_what_is_another_than_it_was_is_told(store: Path, tmp_path: Path) -> None:
    folder = copied(store, tmp_path)
    (kept,) = [one for one in kept_runs(folder, experiment="exam") if one.updates > 1]
    place = file_of(folder, kept.run_id, "environment.json")
    then = json.loads(place.read_text(encoding="utf-8"))
    then["numerics_code"] = "0" * 32
    then["numerics_files"]["network"] = "1" * 16
    then["packages"]["numpy"] = "1.0"
    then["git"] = {"commit": "a" * 40, "dirty": "true"}
    place.write_text(json.dumps(then), encoding="utf-8")
    file_of(folder, kept.run_id, "predictions.npz").unlink()
    (proof,) = prove([kept], False, lambda _: None)
    told_why = " ".join(proof.why)
    assert "The numerics code has changed since (network.py)." in told_why
    assert f"made at commit {'a' * 12} with changes that were not committed" in told_why
    assert f"NumPy was 1.0 and is {np.__version__}, which should make no difference" in told_why
    config = file_of(folder, kept.run_id, "config.yaml")
    config.write_text(config.read_text(encoding="utf-8").replace("seed: 0", "seed: 1"), encoding="utf-8")
    (kept,) = [one for one in kept_runs(folder, experiment="exam") if one.run_id == kept.run_id]
    (proof,) = prove([kept], False, lambda _: None)
    assert any(reason.startswith("config.yaml is not the config") for reason in proof.why)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b'{"git": "main"}', b'{"numerics_code": 1}'])
def test_an_environment_that_somebody_made_something_else_of_is_told(
    store: Path, tmp_path: Path, content: bytes
) -> None:
    folder = copied(store, tmp_path)
    kept = kept_runs(folder, experiment="exam")[0]
    file_of(folder, kept.run_id, "environment.json").write_bytes(content)
    file_of(folder, kept.run_id, "predictions.npz").unlink()
    (proof,) = prove([kept], False, lambda _: None)
    assert [*proof.why] == ["environment.json cannot be read, so what the run was trained with is not known."]


@pytest.mark.slow
@pytest.mark.parametrize(("factor", "verdict"), [("1.0000000001", "DIFFERENT"), ("1.0", "Identical all the same")])
def test_numerics_code_that_was_edited_since_is_named(factor: str, verdict: str, store: Path, tmp_path: Path) -> None:
    root = tmp_path / "checkout"
    for folder in ("pipeline", "conf", "experiments"):
        shutil.copytree(ROOT / folder, root / folder, ignore=shutil.ignore_patterns("__pycache__"))
    optimizer = root / "pipeline" / "numerics" / "optimizer.py"
    step = "            partial(np.multiply, gradient.flat, self._rates, gradient.flat),"
    before = optimizer.read_text(encoding="utf-8")
    after = before.replace(step, f"{step} partial(np.multiply, gradient.flat, np.array({factor}), gradient.flat),")
    assert after != before
    optimizer.write_text(after, encoding="utf-8")
    words = [sys.executable, "-m", "pipeline", "reproduce", "experiment=exam", "--sample", "2"]
    environment = os.environ | {"PYTHONPATH": str(root)}
    done = subprocess.run(words, cwd=store, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == int(verdict == "DIFFERENT"), done.stderr
    assert verdict in done.stdout
    assert "The numerics code has changed since (optimizer.py)." in done.stdout
    assert re.search(r"The run was made at commit \w{12}.*: `git checkout \w{12}` has that code\.", done.stdout)


def test_the_environment_says_what_computes() -> None:
    found = environment()
    assert set(found["numerics_files"]) == set(NUMERICS_CODE)
    assert found["numerics_code"] == code_digest()
    assert re.fullmatch("[0-9a-f]{16}", found["lock"])
    assert set(found["packages"]) >= {"numpy", "scipy", "mlflow"}
    assert found["blas"]["threads"] >= 1
    assert "HOME" not in json.dumps(found["variables"])


def test_the_command_line_is_kept_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["seedbed", "seed=1", "tracking.uri=http://bob:hunter22@host"])
    assert command_line() == "seedbed train seed=1"
    monkeypatch.setattr("sys.argv", ["seedbed", "--multirun", "seed=1,2"])
    assert command_line() == "seedbed sweep seed=1,2"


def test_runs_differ_in_what_they_differ_in(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = {(one.config["seed"], one.updates, tuple(one.config["network"]["hidden"])): one for one in kept_runs(store)}
    lines = differences(runs[0, 5, (2,)], runs[1, 5, (2,)])
    assert next((line.part, line.what, line.one, line.other) for line in lines) == ("config", "seed", "0", "1")
    assert {line.part for line in lines} == {"config", "result"}
    assert differences(runs[0, 5, (2,)], runs[0, 5, (2,)]) == []
    one, other = runs[0, 5, (2,)], runs[0, 5, (4,)]
    text = told(["diff", one.run_id, other.run_id], store, capsys)
    assert "network.hidden" in text
    assert "The same: data, code, environment." in text
    assert "weights.npz: W0, first at its shape" in text


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["reproduce", "run=nothing"], "run=nothing cannot be read from"),
        (["reproduce", "sweep=nothing"], "There is no sweep nothing in"),
        (["reproduce", "run=1", "sweep=2"], "Choose by run= or by sweep= and experiment=, not both."),
        (["reproduce", "--sample", "0"], "--sample"),
        (["diff", "one"], "Two run ids are needed, as in `seedbed diff RUN_ID RUN_ID`, but there is 1."),
        (["diff", "one", "other"], "run=one cannot be read from"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    store: Path, words: list[str], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = told(words, store, capsys, 1)
    assert text.startswith("error: ")
    assert sentence in text
    assert text.count("\n") == 1


def test_each_run_that_is_named_must_be_one(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep's own run, or one run that is not there among others that are, is an error and no proof."""
    parent = read_results(uri(store), Selection()).parent
    run_id = kept_runs(store, experiment="exam")[0].run_id
    assert parent is not None
    for words in (["reproduce", f"run={run_id},nothing"], ["diff", run_id, "nothing"]):
        assert "run=nothing cannot be read from" in told(words, store, capsys, 1)
    for words in (["reproduce", f"run={parent.run_id}"], ["diff", parent.run_id, run_id]):
        assert "is no trained run (a sweep's parent?)" in told(words, store, capsys, 1)


def test_runs_that_were_forced_are_two(empty_store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They have one fingerprint; who names both means both."""
    words = ["train", "data=exam", "training.epochs=3", "tracking.experiment=forced", "--force"]
    assert [in_process(words, empty_store) for _ in range(2)] == [0, 0]
    capsys.readouterr()
    client = MlflowClient(uri(empty_store))
    experiment = client.get_experiment_by_name("forced")
    assert experiment is not None
    ids = [one.info.run_id for one in client.search_runs([experiment.experiment_id])]
    assert len(ids) == 2
    assert told(["reproduce", f"run={','.join(ids)}"], empty_store, capsys).count("IDENTICAL") == 2 + 1
    assert "The same: config, data, code, environment, result." in told(["diff", *ids], empty_store, capsys)


def test_ulps() -> None:
    assert ulps(1.0, np.nextafter(1.0, 2.0)) == 1
    assert ulps(-0.0, 0.0) == 0
    assert ulps(5e-324, -5e-324) == 2
    assert ulps(1.0, 2.0) == 2**52
    assert ulps(1.0, float("nan")) is None
