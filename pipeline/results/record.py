"""What is kept of a run, as plain values: params, metrics, tags and files. No MLflow here.

`predictions.json` and `weights.json` are tables in the form the MLflow UI draws: {"columns": [...], "data": [[...]]}.
"""

import functools
import hashlib
import io
import json
import math
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from typing import Any
from urllib.parse import quote

import numpy as np
import yaml
from numpy.typing import NDArray

from pipeline.config import RunConfig
from pipeline.credentials import public_uri
from pipeline.data import Dataset
from pipeline.errors import UserError
from pipeline.identity import Run
from pipeline.numerics.network import predict
from pipeline.sample import TRAINING, Sample
from pipeline.training.continuing import trajectory_digest
from pipeline.training.points import Points, curve_steps
from pipeline.training.stack import Result

Array = NDArray[np.float64]

LONGEST_PARAM = 6000  # MLflow cuts longer ones without a word, tags too
LONGEST_TAG = 8000
LONGEST_MEMBER = 1000  # of an npz file; a zip file has room for 65535 bytes
HELD = ("val_", "test_")  # how curves of parts held out begin
MAX_TABLE_ROWS = 200
MOST_FEATURE_NUMBERS = 100_000  # in the predictions: more are kept once, with the data set
MAX_TABLE_WEIGHTS = 5000
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c564b", "#555555")


@dataclass(frozen=True)
class Record:
    """A trained run, ready to be written. metrics are (key, value, step); files are bytes by name.

    `seconds` is how long it trained.
    """

    name: str
    params: dict[str, str]
    metrics: list[tuple[str, float, int]]
    tags: dict[str, str]
    files: dict[str, bytes]
    dataset: Dataset
    seconds: float = 0.0


def make_head(run: Run, tags: Mapping[str, str]) -> Record:
    """What is known of a run before it is trained; `tags` are kept with the run's own."""
    own = {"fingerprint": run.fingerprint, "cell": run.cell, "trajectory": trajectory_digest(run)}
    return Record(run.name, params(run), [], fitting_tags({**tags, **own}), {}, run.dataset)


def make_record(run: Run, result: Result, environment: Mapping[str, Any], tags: Mapping[str, str]) -> Record:
    """Everything that is kept of a run that was trained; `tags` are kept with the run's own."""
    head = make_head(run, tags)
    head.tags["mlflow.loggedArtifacts"] = json.dumps([{"path": "predictions.json", "type": "table"}])
    if result.diverged_at is not None:
        head.tags["diverged_at"] = str(result.diverged_at)
    if result.stopped_at is not None:
        head.tags["stopped_at"] = str(result.stopped_at)
    return replace(
        head,
        metrics=curve_points(result.curves, run.config, result.every) + summary(result),
        files=files(run, result, environment),
        seconds=result.seconds,
    )


def fitting(text: str, most: int) -> str:
    """A text of at most `most` characters: a longer one is cut, says so, and ends with a digest of all of it."""
    if len(text) <= most:
        return text
    digest = hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:16]
    end = f"... (cut: {len(text)} characters, sha256 {digest})"
    return text[: most - len(end)] + end


def fitting_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Tags as a store can hold them: cut to its length, without what PostgreSQL and UTF-8 have no room for."""
    return {key: fitting(storable(value), LONGEST_TAG) for key, value in tags.items()}


def storable(text: str) -> str:
    """A text with NUL characters and halves of surrogate pairs written out."""
    return text.replace("\0", "\\x00").encode(errors="backslashreplace").decode()


def params(run: Run) -> dict[str, str]:
    """The identity config as text, lists as `[4, 5]`, and the size of the network. config.yaml has what is cut here."""
    shape = {
        "network.depth": len(run.config.network.hidden),
        "network.width": max(run.config.network.hidden, default=0),
        "network.n_params": run.parameters,
    }
    return {key: fitting(storable(str(value)), LONGEST_PARAM) for key, value in (run.identity | shape).items()}


def curve_points(curves: Mapping[str, Array], config: RunConfig, every: int = 1) -> list[tuple[str, float, int]]:
    """The thinned curves, a point every so many updates, as metrics `curve/<name>`; step = updates.

    What is not finite is left out.

    A metric may overflow where the loss does not: the sum of squares is twice its half.
    """
    length = len(curves["loss"])
    if length == 0:
        return []
    steps = curve_steps(length - 1, config.training.epochs, config.tracking.curve_points)
    points = [(f"curve/{name}", float(curve[step]), step * every) for name, curve in curves.items() for step in steps]
    return [point for point in points if math.isfinite(point[1])]


def curve_metrics(points: Points) -> list[tuple[str, float, int]]:
    """Points of curves as metrics `curve/<name>`; step = updates. What is not finite is left out."""
    steps = points.steps.tolist()
    return [
        (f"curve/{name}", value, step)
        for name, values in points.values.items()
        for value, step in zip(values.tolist(), steps, strict=True)
        if math.isfinite(value)
    ]


def summary(result: Result) -> list[tuple[str, float, int]]:
    """The metrics `result/...`, one value each, at step 0 (the UI draws bars then); what is not finite is left out."""
    values: dict[str, float] = {"result/updates": result.updates}
    loss = result.curves["loss"]
    if len(loss):
        best = float(loss.min())
        values |= {"result/final_loss": float(loss[-1]), "result/best_loss": best}
        if best > 0:
            values["result/log10_best_loss"] = math.log10(best)
        values |= {result_name(name): float(curve[-1]) for name, curve in result.curves.items() if name != "loss"}
    return [(key, float(value), 0) for key, value in values.items() if math.isfinite(value)]


def result_name(curve: str) -> str:
    """What the last point of a curve is called: `result/final_mse`; `result/val_accuracy` of a part held out."""
    return f"result/{curve}" if curve.startswith(HELD) else f"result/final_{curve}"


def files(run: Run, result: Result, environment: Mapping[str, Any]) -> dict[str, bytes]:
    """The artifacts of a run."""
    columns = prediction_columns(run, result)
    kept = {
        "weights.npz": npz(weight_arrays(result)),
        "loss.npz": npz({**result.curves, "updates": np.arange(len(result.curves["loss"])) * result.every}),
        "predictions.json": table(list(columns), table_rows(columns, MAX_TABLE_ROWS)),
        "predictions.npz": npz(prediction_arrays(columns)),
    }
    if run.parameters <= MAX_TABLE_WEIGHTS:
        kept["weights.json"] = table(*weight_table(run, result))
    kept["config.yaml"] = config_yaml(run.config)
    digests = {name: file_digest(content) for name, content in kept.items()}
    about = {**environment, "numerics": run.numerics, "files": digests}
    return kept | {"environment.json": json.dumps(about, indent=2).encode()}


def file_digest(content: bytes) -> str:
    """16 hex digits of a file's content."""
    return hashlib.sha256(content).hexdigest()[:16]


def npz(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """Arrays as the bytes of an npz file, without pickle; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # not np.savez: a name may be any text, `file` too
        for name, array in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, array, allow_pickle=False)
    return buffer.getvalue()


def config_yaml(config: RunConfig) -> bytes:
    """The resolved config as YAML. Most sections are the same in all runs of a sweep, and are written once."""
    sections = public_config(config).items()
    return "".join(section_yaml(name, json.dumps(value)) for name, value in sections).encode()


@functools.lru_cache(maxsize=256)
def section_yaml(name: str, value: str) -> str:
    """A key of a config, whose value is given as JSON, as YAML; written by libyaml where PyYAML has it."""
    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump({name: json.loads(value)}, Dumper=dumper, sort_keys=False, allow_unicode=True)
    return text


def layers(arrays: Mapping[str, NDArray[Any]], kind: str) -> list[NDArray[Any]]:
    """Of the arrays of a weights.npz `W0`, `W1`, ... or `b0`, `b1`, ... in their order."""
    names = (f"{kind}{layer}" for layer in range(len(arrays)))
    return [arrays[name] for name in names if name in arrays]


def read_npz(content: bytes, what: str) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file's bytes. Raises UserError, naming `what`, for other bytes or pickled objects in it."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            return dict(archive)
    except (ValueError, OSError, EOFError, KeyError, AttributeError, TypeError, zipfile.BadZipFile) as error:
        raise UserError(f"{what} holds something else than arrays of numbers and text: it is not read.") from error


def table(columns: Sequence[str], data: Sequence[Sequence[Any]]) -> bytes:
    """A table in the MLflow UI's form; a number that is not finite becomes null, as JSON has none."""
    try:
        return json.dumps({"columns": list(columns), "data": data}, allow_nan=False).encode()
    except ValueError:  # seldom, and looking for it takes as long as writing
        return json.dumps(
            {"columns": list(columns), "data": [[finite(value) for value in row] for row in data]}
        ).encode()


def finite(value: Any) -> Any:
    """A value; None for a number that is not finite."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def weight_arrays(result: Result) -> dict[str, Array]:
    """W0, b0, W1, ... final and initial_W0, ... untrained; b only where the network has biases (they start at 0)."""
    arrays: dict[str, Array] = {}
    for layer, matrix in enumerate(result.final.matrices):
        arrays[f"W{layer}"] = matrix
        if result.final.biases:
            arrays[f"b{layer}"] = result.final.biases[layer]
    for layer, matrix in enumerate(result.initial):
        arrays[f"initial_W{layer}"] = matrix
        if result.final.biases:
            arrays[f"initial_b{layer}"] = np.zeros_like(result.final.biases[layer])
    return arrays


def weight_table(run: Run, result: Result) -> tuple[list[str], list[list[Any]]]:
    """A row a weight: layer, from which unit, to which, its value and its initial value."""
    names: list[Sequence[str]] = [run.dataset.features]
    names += [[f"hidden {i}.{j}" for j in range(1, n + 1)] for i, n in enumerate(run.config.network.hidden, start=1)]
    names.append(run.dataset.targets)
    rows: list[list[Any]] = []
    for layer, (matrix, initial) in enumerate(zip(result.final.matrices, result.initial, strict=True)):
        for i, source in enumerate(names[layer]):
            for j, unit in enumerate(names[layer + 1]):
                rows.append([layer, source, unit, float(matrix[i, j]), float(initial[i, j])])
        if result.final.biases:
            biases = result.final.biases[layer]
            rows += [[layer, "(bias)", unit, float(biases[j]), 0.0] for j, unit in enumerate(names[layer + 1])]
    return ["layer", "from", "to", "weight", "initial weight"], rows


def predictions(run: Run, result: Result, most: int | None = None) -> tuple[list[str], list[list[Any]]]:
    """The columns of a run's predictions, and a row a row of its data, at most so many."""
    columns = prediction_columns(run, result)
    return list(columns), table_rows(columns, most)


def table_rows(columns: Mapping[str, NDArray[Any]], most: int | None = None) -> list[list[Any]]:
    """Columns as rows of plain values, at most so many."""
    return [list(row) for row in zip(*(column[:most].tolist() for column in columns.values()), strict=True)]


def prediction_columns(run: Run, result: Result) -> dict[str, NDArray[Any]]:
    """By name, all (n,): the rows' names, prediction, target and error in the network's scale, then the features.

    Several outputs append their name (`prediction_<name>`); `*_unscaled` columns follow where targets are scaled. Where
    rows were held out, `part` says which part a row is in. Features are left out where they are MOST_FEATURE_NUMBERS.
    """
    dataset, sample = run.dataset, run.sample
    X, y, outputs = all_rows(run, result)
    suffixes = [""] if len(dataset.targets) == 1 else [f"_{name}" for name in dataset.targets]
    scaled: dict[str, NDArray[Any]] = {}
    unscaled: dict[str, NDArray[Any]] = {}
    in_units = sample.target_scale.invert(outputs)
    for j, suffix in enumerate(suffixes):
        scaled[f"prediction{suffix}"] = outputs[:, j]
        scaled[f"target{suffix}"] = y[:, j]
        scaled[f"error{suffix}"] = outputs[:, j] - y[:, j]
    if not sample.target_scale.is_identity:
        for j, suffix in enumerate(suffixes):
            unscaled[free(f"prediction_unscaled{suffix}", {*scaled, *unscaled})] = in_units[:, j]
            unscaled[free(f"target_unscaled{suffix}", {*scaled, *unscaled})] = dataset.raw_y[:, j]
    if sample.held:
        scaled[free("part", {*scaled, *unscaled})] = part_names(sample)
    features: dict[str, NDArray[Any]] = {}
    for name, values in zip(dataset.features, X.T, strict=True):
        if X.size <= MOST_FEATURE_NUMBERS:
            features[free(name, {"input", *scaled, *unscaled, *features})] = values
    return {"input": np.array(dataset.rows, dtype=object), **scaled, **features, **unscaled}


def all_rows(run: Run, result: Result) -> tuple[Array, Array, Array]:
    """Inputs (n, d), targets and predictions (n, k) of all rows, scaled; those held out are predicted here."""
    sample, final = run.sample, result.final
    if not sample.held:
        return sample.training.X, sample.training.y, final.prediction
    X, y = np.empty_like(run.dataset.X), np.empty_like(run.dataset.y)
    outputs = np.empty_like(y)
    outputs[sample.training.places] = final.prediction
    for part in (sample.training, *sample.held.values()):
        X[part.places], y[part.places] = part.X, part.y
    for part in sample.held.values():
        outputs[part.places] = predict(part.X, final.matrices, final.biases, run.mode)
    return X, y, outputs


def part_names(sample: Sample) -> NDArray[np.str_]:
    """For each row the name of its part, (n,)."""
    parts = {TRAINING: sample.training, **sample.held}
    names = np.empty(sum(len(part.places) for part in parts.values()), dtype="<U8")
    for name, part in parts.items():
        names[part.places] = name
    return names


def free(name: str, taken: Collection[str]) -> str:
    """A column's name, with a mark before it as often as another column has that name already."""
    while name in taken:
        name = f"feature {name}"
    return name


def prediction_arrays(columns: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """All predictions under names that a file may have: `input` and `part` text, the others float64."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, column in columns.items():
        arrays[free(member_name(name), arrays)] = column.astype(np.str_) if column.dtype == object else column
    return arrays


def member_name(name: str) -> str:
    """A column's name as a name in an npz file, which other programs may unpack: odd ones are percent-encoded."""
    plain = name.isprintable() and "\\" not in name and not name.startswith("/") and ".." not in name.split("/")
    return name if plain and len(name) <= LONGEST_MEMBER else fitting(quote(name, safe=" "), LONGEST_MEMBER)


def public_config(config: RunConfig) -> dict[str, Any]:
    """The resolved config as plain values, without a password that `tracking.uri` may carry, and `register`."""
    values = {name: dict(vars(value)) if is_dataclass(value) else value for name, value in vars(config).items()}
    values["tracking"]["uri"] = public_uri(config.tracking.uri)
    del values["register"]  # what becomes of a sweep's winner says nothing about a run
    return values


def colors(architectures: Sequence[str]) -> dict[str, str]:
    """A colour an architecture, from a palette that colour-blind people can tell apart."""
    return {name: PALETTE[i % len(PALETTE)] for i, name in enumerate(sorted(set(architectures)))}
