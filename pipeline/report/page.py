"""The report of a sweep: one HTML file that needs no server and no network. Same runs, same bytes."""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined

from pipeline.compare.comparison import Comparison
from pipeline.compare.effects import heat_map
from pipeline.compare.links import run_link
from pipeline.compare.results import Results
from pipeline.compare.verdicts import LEVEL
from pipeline.compare.wording import digits, level, p_text, short_keys, span
from pipeline.errors import UserError
from pipeline.pictures.learning import Picture, learning, picture
from pipeline.pictures.panels import draw_heat_map
from pipeline.pictures.portrait import portrait
from pipeline.terminal import counted

MOST_ROWS = 200  # of a table
MOST_MAPS = 6
BEST_RUNS = 3
QUICK = 200_000_000  # weights times updates that a run may have to be trained again for its pictures
CAPTIONS = {
    "network.svg": "The network: a line a weight, as wide as the weight is large; before and after training.",
    "predictions.svg": "Predictions of each row over the updates; dashed: the targets.",
    "surface.svg": "Predictions for all values of the two features; dots: the rows.",
    "gradients.svg": "Norm of each layer's gradient.",
    "saturation.svg": "Share of each hidden layer's outputs where the activation's slope is below 4 % of its largest.",
}


@dataclass(frozen=True)
class Column:
    """A column of a table: its title; text stands left, long text may wrap."""

    name: str
    text: bool = False
    long: bool = False


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    cells: Sequence[str]
    marked: bool = False


@dataclass(frozen=True)
class Table:
    """A table, and what is said of rows that were left out."""

    columns: Sequence[Column]
    rows: Sequence[Row]
    more: str = ""


@dataclass(frozen=True)
class BestRun:
    """A run worth looking at."""

    title: str
    about: str
    link: str
    pictures: Sequence[Picture]


@dataclass(frozen=True)
class Drawn:
    """The pictures of a run by file name, SVG; if there are none, why."""

    run_id: str
    files: Mapping[str, bytes]
    why: str = ""


def report(results: Results, comparison: Comparison, drawn: Drawn | None) -> bytes:
    """The HTML of a comparison, with the pictures of its best run."""
    environment = Environment(loader=PackageLoader("pipeline.report", "."), autoescape=True, undefined=StrictUndefined)
    environment.globals["zip"] = lambda *parts: zip(*parts, strict=True)
    content = {
        **heading(results, comparison),
        **learning(results, comparison),
        **keys_and_cells(comparison),
        "best": best_runs(results, comparison, drawn),
        "troubled": troubled(results),
        **reproducing(results),
    }
    return environment.get_template("report.html.j2").render(content).encode()


def heading(results: Results, comparison: Comparison) -> dict[str, Any]:
    """Title, question, counts and verdict."""
    runs = comparison.runs
    diverged = int(runs["diverged_at"].notna().sum())
    counts = [
        counted(len(runs), "run"),
        counted(len(comparison.cells), "group" if comparison.by else "cell"),
        counted(runs["seed"].nunique(), "seed"),
        f"swept: {', '.join(comparison.keys) or 'nothing but the seed'}",
    ]
    counts += [f"{diverged:,} diverged"] * bool(diverged) + [f"{len(results.failures):,} failed"] * bool(
        results.failures
    )
    remarks = []
    if comparison.cells["too_few"].any():
        remarks.append(
            "Some cells have fewer than 10 seeds: their intervals are too narrow to be trusted. More seeds help: "
            "those that are finished are not trained again."
        )
    return {
        "title": results.title,
        "question": capitalized(results.plan.get("question", "")),
        "about": "; ".join(counts) + ".",
        "verdict": comparison.verdicts.sentence,
        "remarks": remarks,
    }


def keys_and_cells(comparison: Comparison) -> dict[str, Any]:
    """What the keys do, which cells can be told apart, and all of them."""
    metric, found = comparison.metric, comparison.effects
    against = comparison.verdicts.table
    seeds = comparison.verdicts
    return {
        "effects_sentence": found.sentence,
        "effects": effects_table(comparison) if len(found.terms) else None,
        "maps": list(maps(comparison)),
        "against": against_table(comparison) if len(against) else None,
        "against_about": (
            f"Every other cell against the best, {seeds.best}: differences of {metric.words} paired by seed, with "
            f"their 95 % bootstrap intervals; p values of paired t tests, corrected for all {seeds.comparisons:,} "
            f"pairs (Holm). Shaded: cannot be told from the best at {LEVEL:.0%}. {seeds.assumption}"
        ),
        "cells": cells_table(comparison),
        "cells_about": (
            f"{metric.words.capitalize()} over the seeds: iqm is the interquartile mean, with its 95 % bootstrap "
            "interval. A diverged run counts as worse than every other: it is infinite in the median and left out of "
            "the means."
        ),
    }


def effects_table(comparison: Comparison) -> Table:
    """Main effects and interactions."""
    terms = comparison.effects.terms
    shown = terms[~terms["interaction"] | terms["matters"]].sort_values("share", ascending=False, kind="stable")
    columns = [Column("effect of", text=True), Column("share of the variance"), Column("p, corrected")]
    rows = [Row([str(row["term"]), f"{row['share']:.1%}", p_text(row["p_corrected"])]) for _, row in shown.iterrows()]
    rows.append(Row(["the seed", f"{comparison.effects.noise:.1%}", ""]))
    return Table(columns, rows)


def maps(comparison: Comparison) -> Iterable[Picture]:
    """Heat maps of pairs of keys, those first whose keys explain most."""
    terms = comparison.effects.terms
    share = dict(zip(terms["term"], terms["share"].fillna(0), strict=True)) if len(terms) else {}
    few = [key for key in comparison.keys if 1 < comparison.runs[key].nunique(dropna=False) <= 20]
    pairs = sorted(itertools.combinations(few, 2), key=lambda pair: -sum(share.get(key, 0) for key in pair))
    for number, (row, column) in enumerate(pairs[:MOST_MAPS]):
        medians = heat_map(comparison.runs, comparison.metric, row, column).medians
        svg = draw_heat_map(medians, comparison.metric, f"map-{number}")
        yield picture(svg, f"Median {comparison.metric.words} by {row} and {column}; the brighter, the better.")


def against_table(comparison: Comparison) -> Table:
    """Each cell against the best."""
    metric, table = comparison.metric, comparison.verdicts.table
    gap = f"best is ... times {metric.better}" if metric.log else f"best is {metric.better} by"
    columns = [Column("cell", text=True), Column("seeds"), Column(gap), Column("95 % interval")]
    columns += [Column("p, corrected"), Column("told", text=True), Column("seeds needed")]
    rows = [
        Row(
            [
                str(row["label"]),
                f"{row['n']:,}" + ("" if row["paired"] else " (unpaired)"),
                digits(row["effect"]),
                span(row["low"], row["high"]),
                p_text(row["p_corrected"]),
                verdict_word(row),
                told_seeds(row["seeds_needed"]),
            ],
            marked=not row["told"],
        )
        for _, row in table[:MOST_ROWS].iterrows()
    ]
    return Table(columns, rows, left_out(len(table)))


def verdict_word(row: "pd.Series[Any]") -> str:
    """Whether a cell can be told from the best."""
    if row["reversed"]:
        return "better in the mean"
    if pd.isna(row["p"]):
        return "too few seeds"
    return ("yes: it diverges more" if row["diverges_more"] else "yes") if row["told"] else "no"


def cells_table(comparison: Comparison) -> Table:
    """The cell table."""
    cells, metric = comparison.cells, comparison.metric
    keys = list(comparison.by) or list(comparison.keys) or ["cell"]
    columns = [Column(name, text=True) for name in short_keys(keys)]
    columns += [
        Column(name) for name in ("runs", "diverged", "median", "mean", "iqm", "95 % interval", "lowest", "highest")
    ]
    columns += [Column("worst seed")]
    other = metric.name != "best_loss"
    columns += [Column("best loss, iqm"), Column("95 % interval")] * 1 if other else []
    timed = "updates_needed" in cells
    columns += [Column("reached"), Column("updates needed")] if timed else []
    rows = []
    for _, row in cells[:MOST_ROWS].iterrows():
        values = [level(row[key]) for key in keys]
        values += [f"{row['n']:,}", f"{row['diverged']:,}"]
        values += [digits(row[name]) for name in ("median", "mean", "iqm")] + [span(row["low"], row["high"])]
        values += [digits(row["lowest"]), digits(row["highest"]), str(row["worst_seed"])]
        values += [digits(row["best_iqm"]), span(row["best_low"], row["best_high"])] if other else []
        values += [f"{row['reached']:,} of {row['n']:,}", told_updates(row["updates_needed"])] if timed else []
        rows.append(Row(values))
    return Table(columns, rows, left_out(len(cells)))


def best_runs(results: Results, comparison: Comparison, drawn: Drawn | None) -> list[BestRun]:
    """The best runs of the best cell: a link each, and the pictures of the first, if it is quick to train again."""
    found = best_of(comparison)
    metric = comparison.metric
    shown = []
    for _, run in found.iterrows():
        mine = drawn if drawn and drawn.run_id == run["run_id"] else Drawn(run["run_id"], {})
        about = f"{metric.words} {digits(run[metric.name])}, seed {run['seed']}, {run['cell']}, run {run['run_id']}."
        link = f"{results.server}/{run_link(str(run['experiment_id']), run['run_id'])}"
        pictures = [picture(mine.files[name], text) for name, text in CAPTIONS.items() if name in mine.files]
        shown.append(BestRun(str(run["name"]), f"{about} {mine.why}".strip(), link, pictures))
    return shown


def best_of(comparison: Comparison) -> pd.DataFrame:
    """The best runs of the best cell, the best first."""
    runs, metric = comparison.runs, comparison.metric
    if not comparison.by and len(comparison.cells):
        runs = runs[runs["cell"] == comparison.cells["cell"].iloc[0]]
    runs = runs[runs["diverged_at"].isna() & runs[metric.name].notna()]
    return runs.sort_values([metric.name, "seed"], ascending=[not metric.higher, True])[:BEST_RUNS]


def draw_best(results: Results, comparison: Comparison) -> Drawn | None:
    """The pictures of the best run, None if there is none; it is not drawn if that takes long."""
    best = best_of(comparison)
    if not len(best):
        return None
    run = best.iloc[0]
    run_id = str(run["run_id"])
    if run["network.n_params"] * run["updates"] > QUICK:
        return Drawn(run_id, {}, f"It takes a while to draw: seedbed show run={run_id} does it.")
    try:
        return Drawn(run_id, portrait(results.kept(run_id)))
    except UserError as error:
        return Drawn(run_id, {}, f"It cannot be drawn: {error}")


def troubled(results: Results) -> Table | None:
    """Runs that diverged or failed, each with the reason and the command that repeats it."""
    rows = [Row([one["run"], one["reason"], one["command"]]) for one in [*results.failures, *results.diverged]]
    columns = [Column("run", text=True), Column("reason", text=True, long=True)]
    columns += [Column("repeat it with", text=True, long=True)]
    return Table(columns, rows[:MOST_ROWS], left_out(len(rows))) if rows else None


def reproducing(results: Results) -> dict[str, Any]:
    """Command, environment, config, links."""
    plan, parent = results.plan, results.parent
    environment = plan.get("environment", {})
    commit = environment.get("git", {}).get("commit")
    at = (
        f" At git commit {commit}"
        + (", with changes that were not committed." if environment["git"].get("dirty") == "true" else ".")
        if commit
        else ""
    )
    links = []
    if parent:
        links.append(("The sweep in MLflow", f"{results.server}/{run_link(parent.experiment_id, parent.run_id)}"))
    return {
        "command": plan.get("command", ""),
        "reproduce": (
            "The same command again trains nothing that is finished; with --force it trains all of it again, to the "
            f"same bits where numerics is portable.{at} Kept in {results.shown_uri}."
        ),
        "links": links,
        "links_about": "" if results.shown_uri.startswith("http") else "Links work while `seedbed ui` runs.",
        "config": yaml.safe_dump(plan["config_of_first_run"], sort_keys=False, allow_unicode=True) if plan else "",
        "environment": json.dumps(environment, indent=2) if environment else "",
    }


# --- words ------------------------------------------------------------------------------------------------------


def capitalized(text: str) -> str:
    """A text with a large first letter; the others stay."""
    return text[:1].upper() + text[1:]


def told_seeds(needed: float) -> str:
    """How many seeds it would take."""
    return "" if np.isnan(needed) else "more than 10,000" if np.isinf(needed) else f"{needed:,.0f}"


def told_updates(updates: float) -> str:
    """How many updates half of the runs need."""
    return f"{updates:,.0f}" if np.isfinite(updates) else "not reached by half"


def left_out(rows: int) -> str:
    """What is said below a table that was cut."""
    return f"{rows - MOST_ROWS:,} more rows are in the sweep's files in MLflow." if rows > MOST_ROWS else ""
