"""Wrong words on the command line: one sentence each on standard error, exit code 1, nothing trained, nothing left.

The sentences stand here in full. HERE is the folder that a test runs in, EXPERIMENTS are the names of experiments/.
"""

import re
import shlex
import sys
from pathlib import Path

import pytest

from pipeline.application.words import MOST_JOBS
from pipeline.composing.experiment import experiment_files
from tests.conftest import in_process, seedbed

SEED = "a whole number from 0 to 4294967295"
EPOCHS = "a whole number from 0 to 100000000"
HIDDEN = "a list of whole numbers >= 1, like [4] or [4, 5] ([] for no hidden layer)"
METRICS = (
    "a list, without repetitions, of sse, half_sse, mse, sum_abs, half_sum_abs, mean_abs, bce, cross_entropy, accuracy"
)
URI = "like sqlite:///mlflow.db, postgresql://host/database or http://host:5000"
DATA = "one of cat_shop, csv, digits, exam, first_column, happiness"
NAMES = "null or a list of names, all different and none empty"
ALL_KEYS = "`seedbed train --cfg job` prints all keys"
TRAINING = (
    "training has learning_rate, epochs, loss, metrics, derivative, batch_size, optimizer, momentum, l2, schedule, "
    "decay, decay_every, patience"
)
FUNCTIONS = "functions are written like range(0,10), range(0,1,0.1), choice(1,2) and glob(*)"
UNKNOWN = "a value that cannot be looked up"
LOOK = "check what stands in its ${...}"
OPTIONS = "--multirun, --run, --resolve, --hydra-help, --cfg, --info, --package, --config-dir, --config-name, \
--quiet, --dry-run, --force"

BAD = [
    # words that are no key=value, and keys that do not exist
    ("train =5", "=5 has no key before the =: write key=value, like seed=7."),
    ("train seed", "seed is no key=value: did you mean seed=VALUE?"),
    ("train 5", "5 is no key=value: write key=value, like seed=7."),
    ("train ''", "An empty word is no key=value: leave it out."),
    ("train ~", "~ has no key: write key=value, like seed=7."),
    ("train happiness", "happiness is no key=value: did you mean experiment=happiness?"),
    ("train hapiness", "hapiness is no key=value: did you mean experiment=happiness?"),
    ("train seed:5", "seed:5 is no key=value: did you mean seed=VALUE?"),
    ("train sede=1", "sede is not a key of the config: did you mean seed?"),
    ("train learning_rate=1", "learning_rate is not a key of the config: did you mean training.learning_rate?"),
    ("train training.lr=1", f"training.lr is not a key of the config: {TRAINING}."),
    ("train experimnt=exam", "experimnt is not a key of the config: did you mean experiment?"),
    ("train seed.a=1", f"seed.a is not a key of the config: {ALL_KEYS}."),
    ("train données=1", f"données is not a key of the config: {ALL_KEYS}."),
    ("train +foo=1", f"foo is not a key of the config: {ALL_KEYS}."),
    ("train ++training.foo=1", f"training.foo is not a key of the config: {TRAINING}."),
    ("train 'training={foo: 1}'", f"training.foo is not a key of the config: {TRAINING}."),
    ("train +seed=1", "seed is in the config already: write seed=1 without the +."),
    ("train ~seed", "~seed takes seed out of the config, but a run needs it: leave the word out."),
    ("train ~data", "~data takes data out of the config, but a run needs it: leave the word out."),
    ("train ~foo", f"foo is not a key of the config: {ALL_KEYS}."),
    ("train hydra.foo=1", "hydra.foo is not one of Hydra's keys: `seedbed train --cfg hydra` prints them."),
    # values that Hydra's grammar cannot read
    ("train 'network.hidden=[4'", "network.hidden=[4 cannot be read: a bracket or quote in it has no partner."),
    ("train 'network.hidden=(4)'", f"network.hidden=(4) cannot be read: it must be {HIDDEN}."),
    (
        "train data.name=a=b",
        "data.name=a=b cannot be read: quote a text with such characters, as in 'data.name=\"a=b\"'.",
    ),
    ("train data.name=ä", "data.name=ä cannot be read: quote a text with such characters, as in 'data.name=\"ä\"'."),
    ("train seed=☃", f"seed=☃ cannot be read: it must be {SEED}."),
    ("train 'seed=1\n2'", f"seed=1\\n2 cannot be read: it must be {SEED}."),
    ("train 'seed=foo(1)'", f"seed=foo(1) cannot be read: {FUNCTIONS}."),
    ("sweep seed=1,2,", "seed=1,2, cannot be read: a value is missing beside a comma."),
    (
        "train tracking.uri=postgresql://me:pass=word@host/runs",
        "tracking.uri=... cannot be read: quote a text with such characters, as in 'tracking.uri=\"...\"'.",
    ),
    # several values for one run
    ("train seed=1,2", "seed=1,2 gives several values to one run: use `seedbed sweep`, or give one value."),
    (
        "train 'seed=range(0,3)'",
        "seed=range(0,3) gives several values to one run: use `seedbed sweep`, or give one value.",
    ),
    ("train 'data=glob(*)'", "data=glob(*) gives several values to one run: use `seedbed sweep`, or give one value."),
    (
        "train experiment=architectures seed=1",
        "experiment=architectures is a sweep over network.hidden, training.learning_rate, training.epochs: "
        "use `seedbed sweep experiment=architectures`, or give each of these keys one value.",
    ),
    (
        "train 'hydra.sweeper.params={seed: \"1,2\"}'",
        "This config is a sweep over seed: use `seedbed sweep`, or give each of these keys one value.",
    ),
    # groups
    ("train data=foo", f"data is foo, but it must be {DATA}."),
    ("train data=", f"data is empty, but it must be {DATA}."),
    ("train data=5", f"data is 5, but it must be {DATA}."),
    ("train experiment=foo", "experiment is foo, but it must be one of EXPERIMENTS."),
    ("train experiment=null", "experiment is null, but it must be one of EXPERIMENTS."),
    ("train init=foo", "init is foo, but it must be one of constant, given, he, normal, uniform, xavier."),
    ("train tracking=foo", "tracking is foo, but it must be one of mlflow, none, server."),
    ("train hydra/launcher=foo", "hydra/launcher is foo, but it must be one of basic, stacked."),
    (
        "train hydra.launcher=foo",
        "hydra.launcher=foo would replace a whole group: choose one with hydra/launcher=stacked.",
    ),
    # values; tests/test_config.py has more of them
    ("train seed=", f"seed is empty, but it must be {SEED}."),
    ("train seed=abc", f"seed is abc, but it must be {SEED}."),
    ("train seed=-1", f"seed is -1, but it must be {SEED}."),
    (f"train seed={'9' * 80}", f"seed is {'9' * 57}..., but it must be {SEED}."),
    ("train training.learning_rate=0", "training.learning_rate is 0.0, but it must be a finite number > 0."),
    ("train training.learning_rate=true", "training.learning_rate is true, but it must be a finite number > 0."),
    (
        f"train training.learning_rate=1{'0' * 400}",
        "training.learning_rate is too large a number, but it must be a finite number > 0.",
    ),
    ("train training.epochs=1e3", f"training.epochs is 1000.0, but it must be {EPOCHS}."),
    ("train training.epochs=1000000000000", f"training.epochs is 1000000000000, but it must be {EPOCHS}."),
    ("train training=5", "training is 5, but it must be set key by key, as in training.epochs=500."),
    ("train training.metrics=mse", f"training.metrics is mse, but it must be {METRICS}."),
    ("train 'network.hidden=[0]'", f"network.hidden is [0], but it must be {HIDDEN}."),
    ("train network.hidden=4", f"network.hidden is 4, but it must be {HIDDEN}."),
    ("train 'network.hidden=[4,a]'", f"network.hidden is [4, a], but it must be {HIDDEN}."),
    ("train 'network.hidden={a: 1}'", f"network.hidden is {{a: 1}}, but it must be {HIDDEN}."),
    ("train network.hidden.0=x", f"network.hidden[0] is x, but network.hidden must be {HIDDEN}."),
    (
        "train network.hidden.7=1",
        "network.hidden[7] lies outside of the list: give the whole list, as in network.hidden=[...].",
    ),
    (
        "train 'network.hidden=[100000,100000]'",
        "network.hidden is [100000, 100000], but it must be of at most 10000000 weights in all, and these layers have "
        "10000500000.",
    ),
    ("train network.bias=5", "network.bias is 5, but it must be true or false."),
    (
        "train init=given",
        "init.weights is null, but it must be a list with one matrix (inputs x outputs) a layer, "
        "as init.scheme is given.",
    ),
    (
        "train init=given 'init.weights=[[[1,2],[3,4]],[[1],[2]]]'",
        "init.weights has the shapes [[2, 2], [2, 1]], but it must have [[4, 4], [4, 1]], [inputs, outputs] of each "
        "layer, as data and network.hidden say.",
    ),
    ("train 'data.X=[[0,0],[0,1]]'", "data.y has 3 rows, but it must have 2, as data.X has."),
    (
        "train 'data.X={a: 1}'",
        "data.X is {a: 1}, but it must be a list of rows, each a list of numbers, like [[0, 1], [1, 1]].",
    ),
    (
        "train 'data.X=[[1e308,0],[1,1],[-1e308,0]]' data.scaling=standard",
        "data.X and data.y must stay finite when scaled: choose another data.scaling or smaller numbers.",
    ),
    (
        "train data.scaling=divide 'data.divide_by=[1,2]'",
        "data.divide_by is [1, 2], but it must be one number, or 4 (one a column).",
    ),
    (
        "train data.scaling=max 'data.X=[[1,0],[2,0],[3,0]]'",
        "data.scaling is max, but it must be none, divide or standard, "
        "as a column without a positive maximum cannot be divided by it.",
    ),
    (
        "train data.name=",
        "data.name is empty, but it must be a name on one line, not blank, of at most 250 characters.",
    ),
    # tracking
    ("train tracking.uri=", f"tracking.uri is empty, but it must be {URI}."),
    ("train tracking.uri=ftp://x", f"tracking.uri is ftp://x, but it must be {URI}."),
    (
        "train tracking.uri=sqlite://",
        "tracking.uri is sqlite://, which keeps nothing: name a file, like sqlite:///mlflow.db.",
    ),
    (
        "train tracking.uri=sqlite:////nonexistent/x.db",
        "tracking.uri is sqlite:////nonexistent/x.db, but the folder /nonexistent does not exist: make it first.",
    ),
    (
        "train tracking.uri=sqlite:///folder",
        "tracking.uri is sqlite:///folder, but HERE/folder is a folder: name a database file.",
    ),
    (
        "train tracking.uri=sqlite:///text.txt",
        "The store sqlite:///text.txt cannot be used (file is not a database): check tracking.uri.",
    ),
    (
        "train \"tracking.experiment='  '\"",
        'tracking.experiment is "  ", but it must be a name on one line, not blank, of at most 250 characters.',
    ),
    (
        "train tracking.artifacts=text.txt",
        "tracking.artifacts is text.txt, but HERE/text.txt is no folder that can be written to.",
    ),
    # interpolations
    ("train 'seed=${foo}'", f"seed has {UNKNOWN} (Interpolation key 'foo' not found): {LOOK}."),
    ("train 'seed=${seed}'", f"seed has {UNKNOWN} (Recursive interpolation detected): {LOOK}."),
    ("train 'seed=${data.name}'", f"seed is happiness, but it must be {SEED}."),
    # what Hydra itself stumbles over
    (
        "train hydra.run.dir=text.txt",
        "Hydra cannot use this ([Errno 17] File exists: 'text.txt'): see `seedbed train --help`.",
    ),
    # options and verbs
    ("train --foo", f"--foo is not an option here: options are {OPTIONS}."),
    ("train --seed 5", "--seed is not an option here: write seed=VALUE."),
    ("train --cfg", "--cfg needs a value behind it: one of job, hydra, all."),
    ("train --cfg foo", "--cfg is foo, but it must be one of job, hydra, all."),
    ("train --resolve", "--resolve goes with --cfg: write `seedbed train --cfg job --resolve`."),
    ("train --cfg job --package foo", f"foo is not a key of the config: {ALL_KEYS}."),
    ("train --config-name schema", "--config-name is schema, but the folder named by --config-dir has no such file."),
    ("train --config-dir nope", "--config-dir is nope, but there is no such folder."),
    ("sweep --cfg job", "--cfg is for a single run: use `seedbed train` with only one of --multirun, --cfg."),
    ("foo", "No such command 'foo': see `seedbed --help`."),
    ("--foo", "No such option '--foo': see `seedbed --help`."),
    # other verbs
    ("compare --most 0", "Invalid value for '--most': 0 is not in the range x>=1: see `seedbed compare --help`."),
    ("compare sweep=", "sweep= has no value: give it one, or leave the word out."),
    ("compare by=", "by= has no value: give it one, or leave the word out."),
    ("list foo", "Got unexpected extra argument (foo): see `seedbed list --help`."),
    ("sync tracking.uri=foo", f"tracking.uri is foo, but it must be {URI}."),
    ("diff one", "Two run ids are needed, as in `seedbed diff RUN_ID RUN_ID`, but there is 1."),
    (
        "train data=csv data.path=. data.target=[a]",
        "data.path is ., but it must be a file whose name ends in .csv or .parquet.",
    ),
    # sweeps: one bad job, and nothing trains
    ("sweep seed=0,1,-1", f"job 2 of the sweep (seed=-1): seed is -1, but it must be {SEED}."),
    ("sweep seed=0,abc", f"job 1 of the sweep (seed=abc): seed is abc, but it must be {SEED}."),
    (
        "sweep training.loss=sse,foo seed=0,1",
        "job 2 of the sweep (training.loss=foo seed=0): "
        "training.loss is foo, but it must be one of sse, half_sse, mse, bce, cross_entropy.",
    ),
    ("sweep sede=1,2", "job 0 of the sweep (sede=1): sede is not a key of the config: did you mean seed?"),
    ("sweep data=exam,foo", f"job 1 of the sweep (data=foo): data is foo, but it must be {DATA}."),
    (
        "sweep 'training.epochs=range(1,2,0.25)'",
        f"job 0 of the sweep (training.epochs=1.0): training.epochs is 1.0, but it must be {EPOCHS}.",
    ),
    ("sweep seed=0,-1 hydra/launcher=basic", f"job 1 of the sweep (seed=-1): seed is -1, but it must be {SEED}."),
    (
        "sweep seed=0,-1 hydra.sweeper.max_batch_size=1",
        f"job 1 of the sweep (seed=-1): seed is -1, but it must be {SEED}.",
    ),
    (
        "sweep 'seed=interval(0,1)'",
        "seed=interval(0,1) has no values to list: write some, like 0.1,0.2 or range(0,1,0.1).",
    ),
    ("sweep 'seed=range(0,10,0)'", "seed=range(0,10,0) gives no value to the sweep: give at least one."),
    ("sweep 'seed=range(5,5)'", "seed=range(5,5) gives no value to the sweep: give at least one."),
    ("sweep 'seed=range(a,b)'", f"seed=range(a,b) cannot be read: {FUNCTIONS}."),
    (
        "sweep 'data=glob(z*)'",
        "data=glob(z*) gives no value to the sweep (glob chooses among the choices of a group, like data): "
        "give at least one.",
    ),
    (
        "sweep 'seed=range(0,10000000000)'",
        f"The sweep has 10000000000 runs, but at most {MOST_JOBS} would do: give fewer values.",
    ),
    (
        "sweep seed=0,1 hydra.sweeper.max_batch_size=0",
        "hydra.sweeper.max_batch_size is 0, but it must be null or a whole number >= 1.",
    ),
    (
        "sweep hydra.sweeper.params.seed=1,2",
        "hydra.sweeper.params.seed=1,2 sweeps over a key of Hydra's own: give it one value (quote a text).",
    ),
    (
        "sweep hydra/sweeper=basic 'seed=range(0,5,0)'",
        "Hydra cannot use this (range() arg 3 must not be zero): see `seedbed train --help`.",
    ),
]

# Sentences with a part that differs between machines or versions of Python.
ALIKE = [
    (
        "train network.hidden=" + "[" * 2000 + "]" * 2000,
        r"Hydra cannot use this \(maximum recursion depth exceeded.*\): see `seedbed train --help`\.",
    ),
    (
        "train tracking.uri=http://127.0.0.1:1",
        r"No server answers at http://127\.0\.0\.1:1 \(.*\): start it, or change tracking\.uri\.",
    ),
    (
        "train 'seed=${oc.env:NO_SUCH_VARIABLE}'",
        r"seed has a value that cannot be looked up \(.*NO_SUCH_VARIABLE.*\): check what stands in its \$\{\.\.\.\}\.",
    ),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text file and a folder; the command line of this process is put back behind the test."""
    (tmp_path / "text.txt").write_text("no database\n" * 100)
    (tmp_path / "folder").mkdir()
    monkeypatch.setattr(sys, "argv", ["pytest"])
    return tmp_path


def complaint(command: str, here: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What a command says on standard error, having trained and left nothing."""
    assert in_process(shlex.split(command), here) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert sorted(path.name for path in here.iterdir()) == ["folder", "text.txt"]
    assert not list((here / "folder").iterdir())
    return said.err


def filled(sentence: str, here: Path) -> str:
    """The sentence with its placeholders filled in."""
    return sentence.replace("HERE", str(here)).replace("EXPERIMENTS", ", ".join(experiment_files()))


@pytest.mark.parametrize(("command", "sentence"), BAD, ids=[command[:60] for command, _ in BAD])
def test_one_sentence(command: str, sentence: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(command, here, capsys) == f"error: {filled(sentence, here)}\n"


@pytest.mark.parametrize(("command", "pattern"), ALIKE, ids=[command[:60] for command, _ in ALIKE])
def test_one_sentence_alike(command: str, pattern: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.fullmatch(f"error: {pattern}\n", complaint(command, here, capsys))


@pytest.mark.parametrize(
    "command",
    [
        "train seed=-1",
        "sweep seed=0,1,-1",
        pytest.param("train =5", marks=pytest.mark.slow),
        pytest.param("train experiment=foo", marks=pytest.mark.slow),
        pytest.param("train tracking.uri=sqlite:///text.txt", marks=pytest.mark.slow),
    ],
)
def test_a_real_process_says_the_same(command: str, here: Path) -> None:
    done = seedbed(*shlex.split(command), cwd=here)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"error: {filled(dict(BAD)[command], here)}\n"
    assert sorted(path.name for path in here.iterdir()) == ["folder", "text.txt"]


def test_bytes_that_are_no_text_are_shown_escaped(here: Path) -> None:
    done = seedbed("train", "data.name=\udcff", cwd=here)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: data.name=\\udcff cannot be read: quote a text with such characters, as in 'data.name=\"\\udcff\"'.\n"
    )


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("seed: abc", f"experiment/mine.yaml: seed is abc, but it must be {SEED}."),
        ("sede: 1", "experiment/mine.yaml: sede is not a key of the config: did you mean seed?"),
        (
            "network: {hidden: [a]}",
            f"experiment/mine.yaml: network.hidden[0] is a, but network.hidden must be {HIDDEN}.",
        ),
        ("network: {bias: 5}", "network.bias is 5, but it must be true or false."),
        ("defaults: [override /data: foo]", f"data is foo, but it must be {DATA}."),
        ("seed: [3", r"HERE/experiment/mine.yaml cannot be read \(.*, line 3\): it must be YAML."),
    ],
)
def test_a_file_of_ones_own(content: str, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{content}\n")
    assert in_process(["train", f"--config-dir={tmp_path}", "experiment=mine"], tmp_path) == 1
    pattern = sentence.replace("HERE", str(tmp_path)) if "HERE" in sentence else re.escape(sentence)
    assert re.fullmatch(f"error: {pattern}\n", capsys.readouterr().err)
