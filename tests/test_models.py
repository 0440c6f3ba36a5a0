"""A registered model is whole without Seedbed and without pickle, and gives its run's bits wherever it predicts."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.model.folder import NUMERICS, code_package
from pipeline.paths import PACKAGE
from pipeline.results.predict import run_predictor
from pipeline.results.record import npz
from pipeline.servers.ports import HOST
from pipeline.servers.ui import wait_for
from pipeline.store.database import close_connections
from pipeline.store.reader import Reader
from tests.conftest import seedbed
from tests.models import JAMES, Told, champion, client_of, model_folder, own, registered, told, trained
from tests.modules import reached
from tests.ports import own_port
from tests.sweeps import serving

__all__ = ["own", "registered", "told"]  # fixtures

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


# --- what the model is ------------------------------------------------------------------------------------------


def test_the_model_holds_no_pickle_and_no_path_of_ours(registered: Path) -> None:
    place = model_folder(registered, "happiness")
    files = [path for path in place.rglob("*") if path.is_file()]
    package = code_package()
    assert sorted(str(path.relative_to(place)) for path in files) == sorted(
        ["MLmodel", "artifacts/network.npz", "conda.yaml", "input_example.json", "model.py", "python_env.yaml"]
        + ["requirements.txt", "serving_input_example.json"]
        + [f"code/{package}/{name}.py" for name in ("__init__", *NUMERICS)]
    )
    for path in files:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                assert all(archive[name].dtype.kind in "fU" for name in archive)
        else:
            text = path.read_text(encoding="utf-8")
            assert str(PACKAGE) not in text
            assert "from pipeline" not in text


def test_it_ships_every_module_that_a_prediction_takes() -> None:
    needed = {"numerics.network"} | reached("numerics.network")
    assert {f"numerics.{name}" for name in NUMERICS} == needed


def test_signature_example_and_requirements(registered: Path) -> None:
    place = model_folder(registered, "score")
    about = yaml.safe_load((place / "MLmodel").read_text())
    inputs, outputs = (json.loads(about["signature"][side]) for side in ("inputs", "outputs"))
    assert [(one["name"], one["type"]) for one in inputs] == [("hours_studied", "double"), ("hours_slept", "double")]
    assert [(one["name"], one["type"]) for one in outputs] == [("score", "double")]
    example = json.loads((place / "input_example.json").read_text())
    assert example == {"columns": ["hours_studied", "hours_slept"], "data": [[2.0, 9.0], [1.0, 5.0], [3.0, 6.0]]}
    lines = (place / "requirements.txt").read_text().splitlines()
    assert [re.fullmatch(r"(numpy|pandas|mlflow)==[\d.]+", line) is not None for line in lines] == [True] * 3


def test_metadata_says_where_it_comes_from_and_how_it_is_scaled(registered: Path) -> None:
    (run,) = trained(registered, "exam")
    told = yaml.safe_load((model_folder(registered, "score") / "MLmodel").read_text())["metadata"]
    assert told["run_id"] == run.info.run_id
    assert told["fingerprint"] == run.data.tags["fingerprint"]
    assert told["cell"] == run.data.tags["cell"]
    assert set(told["code"]) == set(NUMERICS)
    assert told["features"][1] == {
        "name": "hours_slept", "scaling": "divided by 9.0", "trained from": 5.0, "trained to": 9.0
    }  # fmt: skip
    assert told["targets"] == [{"name": "score", "scaling": "divided by 100.0"}]
    version = champion(registered, "score")
    assert version.tags == {"fingerprint": told["fingerprint"], "cell": told["cell"]}
    model = client_of(registered).get_logged_model(version.source.removeprefix("models:/"))
    assert (str(model.status), model.source_run_id) == ("READY", run.info.run_id)
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "score", "version": version.version}]


@pytest.mark.parametrize("name", ["small", "happiness", "score", "scaled", "fast"])
def test_it_predicts_the_bits_of_its_run_with_its_own_code(registered: Path, name: str) -> None:
    import mlflow.pyfunc

    kept = Reader(f"sqlite:///{registered}/mlflow.db").run(champion(registered, name).run_id)
    rows = np.random.default_rng(0).normal(0.0, 20.0, (50, len(kept.dataset.features)))
    ours = run_predictor(kept).outputs(rows)
    model = mlflow.pyfunc.load_model(str(model_folder(registered, name)))
    columns = list(kept.dataset.features)
    theirs = model.predict(pd.DataFrame(rows, columns=columns)[columns[::-1]])  # by name, in any order
    assert list(theirs.columns) == list(kept.dataset.targets)
    assert theirs.to_numpy().tobytes() == ours.tobytes()
    python_model = model.unwrap_python_model()
    assert python_model.numerics.__name__ == f"{code_package()}.network"
    assert python_model.numerics.__file__.startswith(str(model_folder(registered, name)).rpartition("/models/")[0])


@pytest.mark.slow
def test_it_needs_no_seedbed(registered: Path) -> None:
    code = (
        "import sys; sys.modules['pipeline'] = None\n"
        "import mlflow.pyfunc, pandas as pd\n"
        f"model = mlflow.pyfunc.load_model({str(model_folder(registered, 'happiness'))!r})\n"
        "row = pd.DataFrame([[0.2, 1.0, 0.4, 0.3]], columns=['money', 'relationship', 'sandwiches', 'baseline'])\n"
        "print(repr(float(model.predict(row)['happiness'].iloc[0])))"
    )
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=registered, env=variables, capture_output=True, text=True, check=True
    )
    assert done.stdout == "0.9544331363809591\n"  # published: "about 0.95"


# --- seedbed predict model= -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rows"), [("happiness", JAMES), ("score", "rows=[[2, 9], [7, 1]]"), ("scaled", "rows=[[1, 5]]")]
)
def test_a_model_predicts_what_its_run_predicts(registered: Path, told: Told, name: str, rows: str) -> None:
    by_run = told(registered, "predict", f"run={champion(registered, name).run_id}", rows)
    assert by_run[0] == 0
    assert told(registered, "predict", f"model={name}@champion", rows) == by_run
    assert told(registered, "predict", f"model={name}/1", rows) == by_run


def test_a_model_predicts_files_and_rows_by_name(registered: Path, told: Told, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("input,hours_slept,hours_studied\nAnn,9,2\n")
    code, out, _ = told(registered, "predict", "model=score@champion", "--input", str(file))
    assert (code, out.splitlines()[0]) == (0, "input,hours_studied,hours_slept,score")
    by_name = told(registered, "predict", "model=score@champion", "hours_studied=2", "hours_slept=9")
    assert by_name[1].splitlines()[1] == out.splitlines()[1].removeprefix("Ann,")


def test_a_moved_store_reads_the_moved_model(own: Path, told: Told) -> None:
    assert told(own, "predict", "model=happiness@champion", JAMES)[0] == 0
    assert model_folder(own, "happiness").is_relative_to(own)


def test_no_code_of_the_store_runs_where_seedbed_predicts(own: Path, told: Told) -> None:
    before = told(own, "predict", "model=happiness@champion", JAMES)
    for file in model_folder(own, "happiness").rglob("*.py"):
        file.write_text("raise SystemExit('this ran')")
    assert told(own, "predict", "model=happiness@champion", JAMES) == before


def test_a_model_of_other_code_says_so(own: Path, told: Told) -> None:
    file = model_folder(own, "happiness") / "artifacts" / "network.npz"
    with np.load(file, allow_pickle=False) as archive:
        arrays = dict(archive)
    file.write_bytes(npz(arrays | {"code": np.array("seedbed_00000000")}))
    code, _, err = told(own, "predict", "model=happiness@champion", JAMES)
    assert code == 0
    assert "Model happiness, version 1, has other code than this Seedbed: last bits may differ" in err
    file.write_bytes(file.read_bytes()[:100])
    code, _, err = told(own, "predict", "model=happiness@champion", JAMES)
    assert (code, err.count("\n")) == (1, 1)
    assert "network.npz of model happiness, version 1, holds something else than arrays" in err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["model=nix@champion", JAMES], "There is no model nix in sqlite:///mlflow.db (there are: fast, happiness, sc"),
        (
            ["model=happiness@best", JAMES],
            "There is no model happiness@best in sqlite:///mlflow.db: it has happiness@ch",
        ),
        (["model=happiness/7", JAMES], "it has happiness@champion (version 1)."),
        (
            ["model=happiness", JAMES],
            "model is happiness, but it must be NAME@ALIAS, like happiness@champion, or NAME/",
        ),
        (["model=happiness@champion", "experiment=exam", JAMES], "Say which network predicts: run=RUN_ID, experiment="),
        (["model=happiness@champion", "height=1"], "height is not a key here: "),
        (["model=happiness@champion", "money=1"], "The row lacks relationship, sandwiches, baseline"),
        (["model=happiness@champion", "rows=[[1, 2]]"], "A row has 2 values, but it must have 4: money"),
    ],
)
def test_bad_words_on_a_model_get_one_sentence(registered: Path, told: Told, words: list[str], sentence: str) -> None:
    code, out, err = told(registered, "predict", *words)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert sentence in err


def test_a_model_of_another_tool_is_told_from_ours(own: Path, told: Told) -> None:
    other = own / "other"
    other.mkdir()
    (other / "MLmodel").write_text("flavors: {}\n")
    client = client_of(own)
    client.create_registered_model("other")
    client.create_model_version("other", other.as_uri())
    close_connections()
    code, _, err = told(own, "predict", "model=other/1", JAMES)
    assert (code, err) == (
        1, "error: Model other, version 1, was not made by Seedbed: predict with MLflow, `mlflow models predict`.\n"
    )  # fmt: skip


# --- real servers -----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def serving_model(folder: Path, reference: str) -> Iterator[str]:
    """`mlflow models serve` on a model, in a folder; gives its address."""
    port = own_port()
    words = ["models", "serve", "-m", f"models:/{reference}", "--env-manager", "local", "--port", str(port)]
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables |= {"MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), variables["PATH"]])  # of uvicorn
    with (folder / "served.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", *words],
            cwd=folder,
            env=variables,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_for(process, port, None, (folder / "served.log").read_text())
        yield f"http://{HOST}:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def answer(address: str, content: str) -> Any:
    """What a served model says to a request's content."""
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/invocations", content.encode(), headers)  # noqa: S310  # it is ours
    with urllib.request.urlopen(request, timeout=300) as response:  # noqa: S310
        return json.load(response)


@pytest.mark.slow
def test_the_served_model_gives_james_his_happiness(own: Path, told: Told) -> None:
    code, out, _ = told(own, "predict", "model=happiness@champion", JAMES)
    assert code == 0
    expected = {"predictions": [{"happiness": float(out.splitlines()[1].rpartition(",")[2])}]}
    (in_readme,) = re.findall(r"/invocations .*?-d '(.*?)'", README, re.DOTALL)
    row = {"money": 0.2, "relationship": 1.0, "sandwiches": 0.4, "baseline": 0.3}
    with serving_model(own, "happiness@champion") as address:
        assert answer(address, in_readme) == expected
        assert answer(address, json.dumps({"inputs": [row]})) == expected
        assert answer(address, json.dumps({"inputs": {name: [value] for name, value in row.items()}})) == expected
    assert f"\n{json.dumps(expected)}\n" in README


@pytest.mark.slow
def test_over_http_it_is_the_same(tmp_path: Path, told: Told) -> None:
    port = own_port()
    uri = f"tracking.uri=http://{HOST}:{port}"
    with serving(tmp_path, port):
        assert told(tmp_path, "sweep", "experiment=happiness", uri, "register=true")[0] == 0
        code, out, err = told(tmp_path, "predict", "model=happiness@champion", JAMES, uri)
        assert (code, out.splitlines()[1]) == (0, "0.2,1,0.4,0.3,0.9544331363809591")
        assert "money is 0.2, outside the training range 0.3 to 1" in err
        again = seedbed("register", uri, cwd=tmp_path)
        assert again.returncode == 0, again.stderr
        assert f"MLFLOW_TRACKING_URI=http://{HOST}:{port} mlflow models serve" in again.stdout
        assert again.stderr == ""
        assert not (tmp_path / "mlruns").exists()
        code, _, err = told(tmp_path, "predict", "model=happiness@nix", JAMES, uri)
        assert (code, "There is no model happiness@nix" in err) == (1, True)
