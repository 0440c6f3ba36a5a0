"""`seedbed recover`: initial weights found from what a tutorial prints, beside those that its experiment keeps."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from pipeline.checks import shown
from pipeline.composing.experiment import compose_run
from pipeline.config import InitConfig
from pipeline.errors import FailedRunsError, UserError
from pipeline.identity import Run, make_run
from pipeline.initial import initial_weights
from pipeline.key_values import check_keys, key_values
from pipeline.numerics.losses import LOSSES, divisor
from pipeline.planning.console import LINE_EVERY
from pipeline.terminal import counted, duration, err, print_table, say
from pipeline.training.stack import problem_of, train_stack
from pipeline.verbs.published import IN_FULL, RELATIVE, Figure, trained_figures, tutorials
from pipeline.verbs.recover import FIRST, Lost, Matrices, Printed, Recovery, in_order, order_like, recover

Array = NDArray[np.float64]

MOST_STARTS = 1_000
ONE_NETWORK = 1e-3  # ends of searches whose weights differ by less: they see the first figures only


@dataclass(frozen=True)
class Case:
    """One training of a tutorial's, and the entries of the tutorial's file with printed figures of it."""

    name: str
    run: Run
    items: Sequence[dict[str, Any]]


def recover_seed(words: Sequence[str]) -> None:
    """Finds weights and prints them. Raises UserError if none are found that give the printed figures."""
    names = [word for word in words if "=" not in word]
    values = key_values([word for word in words if "=" in word])
    check_keys(values, ("seed", "starts"))
    if len(names) > 1:
        raise UserError(f"{' '.join(names)} are {len(names)} tutorials: name one.")
    seed = whole("seed", values.get("seed", 0), 0, 2**32 - 1)
    starts = whole("starts", values.get("starts", 20), 1, MOST_STARTS)
    case = case_of(names[0] if names else "exam")
    lost = lost_of(case)
    began = time.perf_counter()
    with progress(starts) as report:
        recovery = recover(lost, seed, starts, report)
    print_recovery(case, lost, recovery, time.perf_counter() - began)


@contextlib.contextmanager
def progress(starts: int) -> Iterator[Callable[[int], None]]:
    """A function to be told of searches done: it moves a bar in a terminal, else prints a line every few seconds."""
    printed = time.monotonic()
    with Progress(console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task("searches", total=starts)

        def report(done: int) -> None:
            nonlocal printed
            bar.update(task, completed=done)
            if not err.is_terminal and time.monotonic() - printed > LINE_EVERY:
                printed = time.monotonic()
                err.print(f"{done} of {starts} searches")

        yield report


def whole(key: str, value: object, lowest: int, highest: int) -> int:
    """The value. Raises UserError unless it is a whole number of this range."""
    if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
        raise UserError(f"{key} is {shown(value)}, but it must be a whole number from {lowest} to {highest}.")
    return value


def case_of(tutorial: str) -> Case:
    """The training of which a tutorial prints most. Raises UserError if it prints too little, or is no tutorial."""
    known = tutorials()
    if tutorial not in known:
        raise UserError(f"There is no tutorial {shown(tutorial)}: choose from {', '.join(known)}.")
    content = yaml.safe_load(known[tutorial].read_text(encoding="utf-8"))
    entries = [item for item in content["figures"] if "experiment" in item]
    cases: dict[str, list[dict[str, Any]]] = {item["experiment"]: [] for item in entries}
    for item in entries:
        if "computed" not in item and "new_row" not in item:
            cases[item["experiment"]].append(item)
    name = max(cases, key=lambda name: len(cases[name]))
    run = compose_run([f"experiment={name}"])
    first = sum(len(printed_in(item, run)) for item in cases[name] if item["updates"] <= FIRST)
    if first < run.parameters:
        raise UserError(
            f"{tutorial} prints {counted(first, 'figure')} of the first {FIRST} updates of {name}, too few for the "
            f"{run.parameters} weights of its network: `seedbed recover exam` has enough."
        )
    return Case(name, run, cases[name])


def printed_in(item: dict[str, Any], run: Run) -> list[tuple[int, str, float]]:
    """The figures of an entry: place, text, and what to multiply it by: losses become means of squared errors."""
    entries = run.dataset.y.size
    losses = [(entries, item[name], divisor(name, *run.dataset.y.shape) / entries) for name in LOSSES if name in item]
    return [*((row, text, 1.0) for row, text in enumerate(item.get("prediction", []))), *losses]


def lost_of(case: Case) -> Lost:
    """The case as equations."""
    figures = [(item["updates"], *figure) for item in case.items for figure in printed_in(item, case.run)]
    printed = Printed(
        updates=np.array([updates for updates, *_ in figures]),
        places=np.array([place for _, place, *_ in figures]),
        values=np.array([float(text) * factor for *_, text, factor in figures]),
        errors=np.array([rounding(text) * factor for *_, text, factor in figures]),
    )
    (hidden,) = case.run.config.network.hidden
    return Lost(problem_of([case.run]), case.run.config.training.learning_rate, hidden, printed)


def rounding(text: str) -> float:
    """By how much a figure may be off: half a unit of its last digit; or, printed in full, what its sums may be."""
    exact = Decimal(text)
    if len(exact.as_tuple().digits) >= IN_FULL:
        return RELATIVE * abs(float(text))
    return float(Decimal("0.5").scaleb(int(exact.as_tuple().exponent)))


def print_recovery(case: Case, lost: Lost, recovery: Recovery, seconds: float) -> None:
    """Prints what was found. Raises FailedRunsError if a printed figure does not come out of it."""
    run = case.run
    W0, W1 = initial_weights(run.config.init, run.config.seed, run.sizes)
    order = order_like((W0, W1), recovery.weights)
    found, margins = in_order(recovery.weights, order), in_order(recovery.margins, order)
    print_weights(case, (W0, W1), found, margins)
    first = len(lost.printed.first().values)
    say(
        f"{recovery.converged} of {recovery.starts} searches ended at the {first} figures of the first {FIRST} updates,"
    )
    say(f"{where(recovery)} (weights up to {recovery.apart:.1g} apart).")
    differences, open_ = np.abs(flat(found) - flat((W0, W1))), flat(margins)
    inside = f"{np.sum(differences <= open_)} of {len(open_)} by no more than rounding leaves open"
    say(f"Kept and found weights differ by at most {differences.max():.1e}; {inside}.")
    print_figures(figures_from(case, found))
    say(f"It took {duration(seconds)}.")


def where(recovery: Recovery) -> str:
    """Where the searches ended that got there, in words."""
    if recovery.apart < ONE_NETWORK:
        return "at one network but for the order of its hidden units"
    return "but not all at one network: these figures do not single one out"


def print_weights(case: Case, kept: Matrices, found: Matrices, margins: Matrices) -> None:
    """Prints a row a weight."""
    sizes = "-".join(map(str, case.run.sizes))
    table = Table(title=f"{case.name}, {sizes}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("initial weight")
    for column in ("kept", "found", "difference", "left open"):
        table.add_column(column, justify="right", no_wrap=True)
    for name, *values in zip(names_of(case.run), flat(kept), flat(found), flat(margins), strict=True):
        was, now, margin = values
        table.add_row(Text(name), f"{was:.9f}", f"{now:.9f}", f"{now - was:.1e}", f"± {margin:.1e}")
    print_table(table)


def names_of(run: Run) -> list[str]:
    """A name a weight, in the order of `flat`: `hours_slept to hidden 2`."""
    units = [f"hidden {j}" for j in range(1, run.sizes[1] + 1)]
    pairs = [(one, unit) for one in run.dataset.features for unit in units]
    pairs += [(unit, target) for unit in units for target in run.dataset.targets]
    return [f"{one} to {other}" for one, other in pairs]


def flat(matrices: Matrices) -> Array:
    """All weights, (w,), layer by layer."""
    return np.concatenate([matrix.ravel() for matrix in matrices])


def figures_from(case: Case, found: Matrices) -> list[Figure]:
    """All printed figures beside those of a training from the weights found."""
    wanted = sorted({item["updates"] for item in case.items})
    config = case.run.config
    init = InitConfig(scheme="given", weights=[matrix.tolist() for matrix in found])
    run = make_run(replace(config, init=init, training=replace(config.training, epochs=wanted[-1])))
    result = train_stack([run], snapshots=wanted)[0]
    return [figure for item in case.items for figure in trained_figures(item, run, result)]


def print_figures(figures: Sequence[Figure]) -> None:
    """Prints how well printed figures come out. Raises FailedRunsError if one does not."""
    bad = [figure.what for figure in figures if not figure.good]
    say(f"{len(figures) - len(bad)} of {len(figures)} printed figures come out of the found weights:")
    for digits in sorted({figure.digits for figure in figures}):
        agreeing = [figure.agreeing for figure in figures if figure.digits == digits]
        say(f"  {counted(len(agreeing), 'figure')} of {digits} digits: {min(agreeing)} or more agree")
    if bad:
        raise FailedRunsError(f"{len(bad)} printed figures do not come out of the found weights: {'; '.join(bad)}.")
