"""What `seedbed reproduce` and `seedbed diff` do: read their words, train or compare, print."""

import random
from collections.abc import Sequence
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from pipeline.compare.commands import texted
from pipeline.compare.results import Selection, read_results
from pipeline.errors import FailedRunsError, UserError
from pipeline.key_values import check_keys, key_values
from pipeline.planning.console import Display
from pipeline.prove.again import Proof, prove
from pipeline.prove.differ import differences, parts_alike
from pipeline.results.kept import KeptRun
from pipeline.store.address import store_uri
from pipeline.terminal import counted, print_table, say

KEYS = ("run", "sweep", "experiment", "tracking.uri")
MOST_LISTED = 20


def reproduce(words: Sequence[str], sample: int, everything: bool, stacked: bool) -> None:
    """Trains kept runs again and says whether they are identical. Raises FailedRunsError if one is not."""
    values = key_values(words)
    check_keys(values, KEYS)
    kept, told = named(values) if "run" in values else drawn(values, None if everything else sample)
    say(f"{told}: training {counted(len(kept), 'run')} again.")
    with Display(0, sum(one.updates for one in kept)) as display:
        proofs = prove(kept, stacked, lambda updates: display.report(updates, ()))
    print_proofs(proofs)
    bad = sum(not proof.is_identical for proof in proofs)
    if bad:
        some = "The run is" if len(proofs) == 1 else f"{bad:,} of {len(proofs):,} runs are"
        raise FailedRunsError(f"{some} not what training gives now.")
    say(f"{counted(len(proofs), 'run')}: all IDENTICAL, to the bit." if len(proofs) > 1 else "To the bit.")


def named(values: dict[str, Any]) -> tuple[list[KeptRun], str]:
    """The runs of these ids, and where they are. Raises UserError for one that is no finished run."""
    if "sweep" in values or "experiment" in values:
        raise UserError("Choose by run= or by sweep= and experiment=, not both.")
    from pipeline.store.reader import open_reader

    reader = open_reader(values.get("tracking.uri"))
    run_ids = dict.fromkeys(part.strip() for part in str(values["run"]).split(","))
    return [reader.run(run_id) for run_id in run_ids], reader.shown_uri


def drawn(values: dict[str, Any], sample: int | None) -> tuple[list[KeptRun], str]:
    """Runs of a sweep or an experiment, else of the latest sweep, and what was chosen.

    At most `sample` of them, drawn by the selection's name: the same ones each time.
    """
    selection = Selection(texted(values, "sweep"), texted(values, "experiment"))
    results = read_results(store_uri(values.get("tracking.uri")), selection)
    run_ids = results.run_ids
    if sample is not None and len(run_ids) > sample:
        chosen = set(random.Random(results.title).sample(run_ids, sample))  # noqa: S311  # no secret
        run_ids = [run_id for run_id in run_ids if run_id in chosen]
    told = f"{results.title} in {results.shown_uri}, {counted(len(results.runs), 'run')}"
    return [results.kept(run_id) for run_id in run_ids], told


def print_proofs(proofs: Sequence[Proof]) -> None:
    """Prints a row a run, and of those that are not identical where and why."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("run", "name", "verdict", "digest"):
        table.add_column(name, no_wrap=True)
    shown = sorted(proofs, key=lambda proof: proof.is_identical)[:MOST_LISTED]
    for proof in shown:
        table.add_row(proof.run_id, Text(proof.name), verdict(proof), proof.digest)
    print_table(table)
    if len(proofs) > len(shown):
        say(f"... and {len(proofs) - len(shown):,} more")
    for remark in dict.fromkeys(line for proof in proofs if proof.is_identical for line in proof.why):
        say(f"Identical all the same: {remark}")
    for proof in shown:
        if not proof.is_identical:
            say(f"{proof.name}, run {proof.run_id}:")
            for line in [*proof.faults, *map(str, proof.differences), *proof.why]:
                say(f"  {line}")


def verdict(proof: Proof) -> str:
    """One word for a proof."""
    return "IDENTICAL" if proof.is_identical else "DIFFERENT" if proof.differences else "BROKEN"


def diff(words: Sequence[str]) -> None:
    """Prints what two runs differ in."""
    run_ids = [word for word in words if "=" not in word]
    values = key_values([word for word in words if "=" in word])
    check_keys(values, ("tracking.uri",))
    if len(run_ids) != 2:
        told = "is 1" if len(run_ids) == 1 else f"are {len(run_ids)}"
        raise UserError(f"Two run ids are needed, as in `seedbed diff RUN_ID RUN_ID`, but there {told}.")
    from pipeline.store.reader import open_reader

    reader = open_reader(values.get("tracking.uri"))
    lines = differences(*(reader.run(run_id) for run_id in run_ids))
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for name in ("part", "what", run_ids[0][-8:], run_ids[1][-8:]):
        table.add_column(name, overflow="fold")
    for line in lines:
        table.add_row(line.part, *map(Text, (line.what, line.one, line.other)))
    if lines:
        print_table(table)
    alike = parts_alike(lines)
    say(f"The same: {', '.join(alike)}." if alike else "Nothing is the same.")
