"""`python -m benchmarks`: measures, prints tables and the verdict, writes JSON and a picture."""

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path

import click
from rich.console import Console

from benchmarks import commands, digits, large, plot, scaling, show, sweeps, tracking, training
from benchmarks.contenders import CONTENDERS
from benchmarks.verdict import Results

USUAL = ("training", "cores", "sweeps", "digits", "commands", "tracking")
PARTS = (*USUAL, "scaling")  # which takes as long as all others, so it is measured where it is asked for only
FOLDER = Path("bench")
WIDE = 120  # where output is no terminal, tables are not squeezed


@dataclass(frozen=True)
class Settings:
    """How much is measured."""

    contenders: tuple[str, ...] = tuple(CONTENDERS)
    ways: tuple[str, ...] = tuple(sweeps.WAYS)
    parts: tuple[str, ...] = USUAL
    runs: tuple[int, ...] = (1, 32, 256, 1024)
    updates: int = 500
    rounds: int = 5
    sweep_updates: tuple[int, ...] = (500,)
    few: tuple[int, int] = (1, 5)
    many: tuple[int, int] = (8, 520)
    sweep_rounds: int = 1
    rows: tuple[str, ...] = tuple(tracking.ROWS)
    tracking_rounds: int = 3
    core_epochs: int = 5000
    extent: scaling.Extent = scaling.NORMAL
    long: bool = False
    quick: bool = False


QUICK = {
    "contenders": tuple(name for name in CONTENDERS if name != "torch-vmap"),
    "ways": ("usual", "batched", "seedbed", "seedbed-none"),
    "parts": ("training", "sweeps", "digits", "commands", "tracking"),
    "runs": (1, 1024),
    "updates": 100,
    "rounds": 2,
    "sweep_updates": (100,),
    "few": (1, 2),
    "many": (2, 34),
    "rows": ("bulk", "client", "batch", "trackio", "bulk-postgres", "http-app", "http"),
    "tracking_rounds": 1,
    "extent": scaling.QUICK,
    "quick": True,
}
LONG = {
    "rounds": 9,
    "sweep_updates": (500, 5000),
    "many": (8, 1032),
    "sweep_rounds": 3,
    "tracking_rounds": 5,
    "core_epochs": 20_000,
    "extent": scaling.LONG,
    "long": True,
}


def numbers(_context: click.Context, _option: click.Parameter, text: str | None) -> tuple[int, ...] | None:
    """The numbers in `1,32,256`."""
    if text is None:
        return None
    try:
        found = tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        found = (0,)
    if min(found) < 1:
        raise click.BadParameter(f"{text} must be whole numbers from 1 on with commas between, as in 1,32,1024.")
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", "size", flag_value="quick", help="Two or three minutes; noisy, and not all goals.")
@click.option("--long", "size", flag_value="long", help="An hour: more rounds, 5,000 updates, 10,000 runs, memory.")
@click.option("--only", type=click.Choice(PARTS), multiple=True, help="Measure this part; may be given again.")
@click.option("--runs", callback=numbers, help="Numbers of networks to train at once, such as 1,32,1024.")
@click.option("--updates", type=click.IntRange(1), help="Updates of a training in the training part.")
@click.option("--rounds", type=click.IntRange(1), help="Samples of each training.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where numbers go. [bench/bench.json]")
@click.option("--plot", "plot_file", type=click.Path(path_type=Path), help="Where the picture goes. [bench/bench.svg]")
def main(
    size: str | None,
    only: tuple[str, ...],
    runs: tuple[int, ...] | None,
    updates: int | None,
    rounds: int | None,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Measure Seedbed beside what people use instead; ten to fifteen minutes, on an otherwise idle machine."""
    chosen: dict[str, object] = dict({"quick": QUICK, "long": LONG}.get(size or "", {}))
    asked = {"parts": only or None, "runs": runs, "updates": updates, "rounds": rounds}
    settings = Settings(**chosen | {name: value for name, value in asked.items() if value})  # type: ignore[arg-type]
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=WIDE)
    results = measure(settings, progress())
    for shown in show.tables(results):
        console.print(shown)
    write(results, settings, json_file or FOLDER / "bench.json", plot_file or FOLDER / "bench.svg")


def progress() -> Callable[[str], None]:
    """Says what is being measured, and since when, on standard error."""
    started = time.monotonic()

    def report(text: str) -> None:
        print(f"{time.monotonic() - started:5.0f} s  {text}", file=sys.stderr, flush=True)

    return report


def measure(settings: Settings, report: Callable[[str], None]) -> Results:
    """Measures the parts that are asked for."""
    results, load = Results(), os.getloadavg()[0]
    if "training" in settings.parts:
        results.training = training.measure(
            settings.contenders, settings.runs, settings.updates, settings.rounds, report
        )
    if "sweeps" in settings.parts:
        for updates in settings.sweep_updates:
            found, results.sweeps_left_out = sweeps.measure(
                settings.ways, (settings.few, settings.many), updates, settings.sweep_rounds, report
            )
            results.sweeps += found
    if "digits" in settings.parts:
        results.digits = digits.measure(settings.quick, report)
    if "cores" in settings.parts:
        report(f"two cores against one: 2,000 runs of {settings.core_epochs:,} epochs")
        results.cores = commands.two_cores(2000, settings.core_epochs, settings.sweep_rounds)
    if "commands" in settings.parts:
        results.commands = commands.measure(settings.long, settings.quick, report)
    if "tracking" in settings.parts:
        results.tracking = tracking.measure(settings.rows, settings.tracking_rounds, report)
        results.large = large.measure(settings.long, settings.quick, report)
    elif "scaling" in settings.parts and not settings.quick:
        results.tracking = tracking.measure(scaling.STORES, settings.tracking_rounds, report)
    if "scaling" in settings.parts:
        results.scaling = scaling.measure(settings.extent, report)
    results.load = (load, os.getloadavg()[0])
    return results


def write(results: Results, settings: Settings, json_file: Path, plot_file: Path) -> None:
    """Writes the numbers, and the picture where there is something to draw and matplotlib to draw it."""
    document: Mapping[str, object] = show.as_json(results, asdict(settings))
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    click.echo(f"Numbers: {json_file}")
    if not results.training.timings:
        return
    if find_spec("matplotlib") is None:
        click.echo("No picture: matplotlib is not installed (make setup EXTRAS=bench).")
        return
    plot_file.parent.mkdir(parents=True, exist_ok=True)
    plot.draw(results.training, plot_file)
    click.echo(f"Picture: {plot_file}")


if __name__ == "__main__":
    main()
