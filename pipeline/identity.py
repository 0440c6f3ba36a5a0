"""What makes two runs the same run: the identity config, the fingerprint, the cell, and short names for people."""

import ast
import functools
import hashlib
import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from pipeline.checks import check
from pipeline.config import DataConfig, InitConfig, RunConfig, TrainingConfig
from pipeline.credentials import PREFIX, public_text, public_uri
from pipeline.data import Dataset, make_dataset
from pipeline.errors import UserError
from pipeline.numerics.layout import layout_of
from pipeline.numerics.losses import OF_SHARES, RAW_SUMS
from pipeline.numerics.network import Mode
from pipeline.paths import PACKAGE
from pipeline.sample import Sample, sample_of

NUMERICS_CODE = (
    *("activations", "course", "data", "elementary", "initial", "layout", "losses", "network", "optimizer", "program"),
    *("sample", "sigmoid", "train"),
)
UNUSED_INIT = {
    "normal": ("init.low", "init.high", "init.weights"),
    "xavier": ("init.low", "init.high", "init.weights"),
    "he": ("init.low", "init.high", "init.weights"),
    "uniform": ("init.scale", "init.weights"),
    "constant": ("init.low", "init.high", "init.weights", "init.generator", "init.skip_networks"),
    "given": ("init.scale", "init.low", "init.high", "init.generator", "init.skip_networks"),
}
MODES = {"runs_last": "portable", "runs_first": "fast"}  # what numerics=auto means
NAME_LENGTH = 20
SUM_TO_ONE = 1e-9
SECRET_SECTIONS = ("tracking", "hydra")  # hydra.sweeper.storage is an address too


@dataclass(frozen=True)
class Run:
    """A config with everything that follows from it.

    `numerics` is what numerics=auto became; `identity` is flat (dotted keys), `cell_digest` leaves the seed out,
    `fingerprint` adds the code's digest.
    `overrides` are the words that give this config on a command line, `call` is the call that gave it from Python.
    """

    config: RunConfig
    dataset: Dataset
    numerics: str
    layout: str
    identity: dict[str, Any]
    fingerprint: str
    cell_digest: str
    overrides: tuple[str, ...] = ()
    call: str = ""

    @property
    def sample(self) -> Sample:
        """The rows that the run trains on, and those held out. Raises UserError if a part gets no row."""
        return sample_of(self.dataset, self.config.data, self.config.seed)

    @property
    def command(self) -> str:
        """The command, or the call, that trains this run."""
        return self.call or shlex.join(["seedbed", "train", *(word for word in self.overrides if not is_secret(word))])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Units of every layer: (d, h1, ..., k)."""
        return (self.dataset.X.shape[1], *self.config.network.hidden, self.dataset.y.shape[1])

    @property
    def parameters(self) -> int:
        """How many weights and biases the network has."""
        per_layer = [a * b + b * self.config.network.bias for a, b in zip(self.sizes, self.sizes[1:], strict=False)]
        return sum(per_layer)

    @property
    def mode(self) -> Mode:
        """How its network computes."""
        return Mode(self.numerics, self.config.network.activations, self.layout)

    @property
    def updates_an_epoch(self) -> int:
        """How many updates use every training row once."""
        size = self.config.training.batch_size
        return 1 if size is None else -(-len(self.sample.training.X) // size)

    @property
    def architecture(self) -> str:
        """The hidden layers in short: `4-5`, or `none`."""
        return "-".join(map(str, self.config.network.hidden)) or "none"

    @property
    def cell(self) -> str:
        """The cell's name, alike for runs that differ in the seed only: `4-5 lr0.5 e1000 1f2e3d`."""
        training = self.config.training
        return f"{self.architecture} lr{training.learning_rate:g} e{training.epochs} {self.cell_digest[:6]}"

    @property
    def name(self) -> str:
        """A name of at most 20 characters: `4-5 lr0.5 s7`; a long list of layers is cut first."""
        rest = f" lr{self.config.training.learning_rate:g} s{self.config.seed}"
        room = NAME_LENGTH - len(rest)
        short = self.architecture if len(self.architecture) <= room else self.architecture[: room - 1] + "…"
        return (short + rest)[:NAME_LENGTH] if room > 1 else rest.strip()[:NAME_LENGTH]


def is_secret(word: str) -> bool:
    """True for an override with what may be a password: an address with a user, or the look-up of a hidden one."""
    key, _, value = word.lstrip("+").partition("=")
    if not key.startswith(SECRET_SECTIONS):
        return False
    if PREFIX in value or public_text(value) != value:
        return True
    return (key == "tracking.uri" and public_uri(value) != value) or (key == "tracking" and value.startswith("{"))


def make_run(config: RunConfig, overrides: Sequence[str] = (), dataset: Dataset | None = None, call: str = "") -> Run:
    """Builds the data set, unless it is given (a table's is, by tables.py), and derives the identity.

    Raises UserError if the data cannot be divided and scaled as asked, or the network does not suit them.
    """
    dataset = dataset or make_dataset(config.data)
    config = settled(config, dataset)
    check_targets(config, sample_of(dataset, config.data, config.seed))
    layout = layout_for(config, dataset)
    numerics = MODES[layout] if config.numerics == "auto" else config.numerics
    identity = identity_of(config, dataset, numerics)
    cell = {key: value for key, value in identity.items() if key != "seed"}
    return Run(
        config=config,
        dataset=dataset,
        numerics=numerics,
        layout="runs_last" if numerics == "portable" else layout,
        identity=identity,
        fingerprint=fingerprint_of(identity, code_digest()),
        cell_digest=digest(cell),
        overrides=tuple(overrides),
        call=call,
    )


def settled(config: RunConfig, dataset: Dataset) -> RunConfig:
    """The config with what only the data could say: of a table the kind of its targets, and its digest.

    Raises UserError if the network does not suit the data, or the table is not the one of the digest given.
    """
    data = config.data
    if not data.shape:
        config.check_sizes(len(dataset.features), len(dataset.targets))
    if not data.is_table:
        return config
    want = f"{dataset.digest}, the digest of the table that is there: give it, or null to take any"
    check(data.digest in (None, dataset.digest), "data.digest", data.digest, want)
    if data.kind == "rows":
        return config
    task = "classes" if dataset.is_classes else "regression"
    return replace(config, data=replace(data, task=task, digest=dataset.digest))


def check_targets(config: RunConfig, sample: Sample) -> None:
    """Raises UserError for targets, as the network sees them, that the loss or a metric is not defined for."""
    training = config.training
    named = [("training.loss", training.loss), *(("training.metrics", name) for name in training.metrics)]
    for key, name in [(key, name) for key, name in named if RAW_SUMS[name] in OF_SHARES]:
        for part in (sample.training, *sample.held.values()):
            low, high = float(part.y.min()), float(part.y.max())
            wanted = "targets from 0 to 1" if low < 0.0 or high > 1.0 else ""
            if name == "cross_entropy" and np.abs(part.y.sum(axis=1) - 1.0).max() > SUM_TO_ONE:
                wanted = "targets that add up to 1 in each row"
            if wanted:
                raise UserError(
                    f"{key} has {name}, which is for {wanted}, but the network is given others, from {low:g} to "
                    f"{high:g}: choose data.target_scaling=none, data.task=classes, or another {key}."
                )


def layout_for(config: RunConfig, dataset: Dataset) -> str:
    """The layout that suits the size of a run's network and updates. Raises UserError if a part gets no row."""
    n = len(sample_of(dataset, config.data, config.seed).training.X)
    rows = n if config.training.batch_size is None else min(config.training.batch_size, n)
    return layout_of((dataset.X.shape[1], *config.network.hidden, dataset.y.shape[1]), rows)


def is_slow(run: Run) -> bool:
    """True for a run whose size asks for runs first, which has no portable numerics."""
    return run.numerics == "portable" and layout_for(run.config, run.dataset) == "runs_first"


def fingerprint_of(identity: Mapping[str, Any], code: str) -> str:
    """The fingerprint of a run with this flat config, trained by code with this digest."""
    return digest({"config": identity, "code": code})


def identity_of(config: RunConfig, dataset: Dataset, numerics: str) -> dict[str, Any]:
    """Flat config of all that decides a run's result. Keys its init scheme does not use are left out."""
    data = config.data
    flat: dict[str, Any] = {
        "data.name": data.name,
        "data.digest": dataset.digest,
        "data.scaling": data.scaling,
        "data.target_scaling": data.target_scaling,
        **chosen(data),
    }
    for section in ("network", "init", "training"):
        for key, value in vars(getattr(config, section)).items():
            flat[f"{section}.{key}"] = value
    for key in (*UNUSED_INIT[config.init.scheme], *unused_training(config.training)):
        del flat[key]
    if config.init.scheme == "given":
        flat["init.weights"] = weights_digest(config.init)
    return flat | {"seed": config.seed, "numerics": numerics}


def chosen(data: DataConfig) -> dict[str, Any]:
    """The further keys of data that decide a result: what is dropped, and what is not as usual. No table's place.

    What is dropped is there always: a sweep over it compares with nothing dropped.
    """
    keys = ["divide_by", "target_divide_by", "validation", "test", "stratify"]
    keys += ["draw", "noise", "training_rows", "label_noise", "outliers"]
    if data.draw or data.noise:
        keys.append("draw_seed")
    if data.is_table:
        keys += ["target", "features", "categorical", "missing", "task", "groups"]
    usual = {field.name: field.default for field in fields(DataConfig)}
    unusual = {f"data.{key}": getattr(data, key) for key in keys if getattr(data, key) != usual[key]}
    return {"data.drop": data.drop, **unusual}


def unused_training(training: TrainingConfig) -> Iterator[str]:
    """The keys of training that decide nothing."""
    if training.optimizer not in ("momentum", "nesterov"):
        yield "training.momentum"
    if training.schedule in ("constant", "cosine"):
        yield "training.decay"
    if training.schedule != "step":
        yield "training.decay_every"


def weights_digest(init: InitConfig) -> str:
    """16 hex digits for given initial weights."""
    return digest([[[float(value) for value in row] for row in matrix] for matrix in init.weights])[:16]


def digest(value: Any) -> str:
    """32 hex digits of a JSON-like value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:32]


@functools.cache
def code_digest() -> str:
    """Digest of the modules that decide a result. Comments, docstrings and layout do not count."""
    return digest(bare_sources())


@functools.cache
def code_digests() -> dict[str, str]:
    """16 hex digits for each of those modules."""
    return {name: digest(text)[:16] for name, text in bare_sources().items()}


def bare_sources() -> dict[str, str]:
    """The modules that decide a result, by name, without comments, docstrings and layout, wherever they stand."""
    return {name: bare_source(source_of(name).replace("pipeline.numerics.", "pipeline.")) for name in NUMERICS_CODE}


def source_of(module: str) -> str:
    """The source of a module that decides a result."""
    places = (PACKAGE / "numerics" / f"{module}.py", PACKAGE / f"{module}.py")
    return next(place for place in places if place.exists()).read_text(encoding="utf-8")


def bare_source(source: str) -> str:
    """Python source as `ast.unparse` writes it, without docstrings.

    Python 3.11 to 3.13 agree on it but for f-strings with quotes inside their braces; a test keeps those out.
    """
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node, clean=False):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
