"""The command line: `seedbed <verb>`, also as `python -m pipeline <verb>`."""

import gc
import inspect
import signal
import sys
from collections.abc import Sequence

import click

from pipeline import __version__
from pipeline.credentials import guard_stderr, redacted
from pipeline.errors import UserError

OVERRIDES = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
INTERRUPTED = 130
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print nothing but notes, failed runs and errors.")
FORCE = click.option("--force", is_flag=True, help="Train what is finished in the store again, as new runs.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done (see `seedbed plan`).")


class Verb(click.Command):
    """A command whose help is printed as it is written: it is wrapped by hand, and has tables."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the help without filling paragraphs."""
        formatter.write_paragraph()
        for line in inspect.cleandoc(self.help or "").splitlines():
            formatter.write(f"  {line}".rstrip() + "\n")


class Verbs(Verb, click.Group):
    """The verbs."""

    command_class = Verb


@click.group(cls=Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="seedbed")
def cli() -> None:
    """Train families of small NumPy networks from configs, and keep every run in MLflow.

    Try:
      seedbed train experiment=happiness      one run; its figures are those of the tutorial
      seedbed plan experiment=architectures   what its sweep would do: runs, time, disk
      seedbed sweep experiment=architectures  480 runs: architectures x seeds x learning rates x epochs
      seedbed ui                              look at them in MLflow
      seedbed published                       every figure the tutorials print, beside ours
    """


@cli.command(context_settings=OVERRIDES)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@QUIET
@DRY_RUN
@FORCE
def train(overrides: tuple[str, ...], quiet: bool, dry_run: bool, force: bool) -> None:
    """Train one run from a config.

    OVERRIDES are Hydra's: key=value words that change the default config (conf/config.yaml), and Hydra's own options.

    Groups (swapped whole):
      experiment=   a file of experiments/ (see `seedbed list`)
      data=         happiness, exam, first_column, cat_shop
      init=         normal, uniform, given
      tracking=     mlflow, server (an MLflow server), none
      executor=     auto, serial, processes (with executor.workers=2; else one a core)

    Keys (tuned):
      network.hidden=[4,5]  network.bias=true
      training.learning_rate=0.5  training.epochs=1000  training.loss=half_sse|sse|mse
      training.metrics=[mse,mean_abs]  seed=7  numerics=portable|fast
      tracking.uri=sqlite:///runs.db  tracking.experiment=NAME
      data.X=[[0,0],[0,1],[1,0],[1,1]]  data.y=[0,1,1,0]  data.scaling=none|max|divide|standard

    Hydra's options:
      --cfg job     print the composed config and stop (with --resolve, resolved)
      --info        print how it was composed
      --multirun    the same as `seedbed sweep`

    For example:
      seedbed train experiment=happiness training.epochs=400
      seedbed train data=cat_shop network.hidden=[8] network.bias=true seed=3

    The same config again is found in MLflow and not trained a second time, but with --force.
    """
    run_words(overrides, quiet, dry_run, force)


@cli.command(context_settings=OVERRIDES)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@QUIET
@DRY_RUN
@FORCE
def sweep(overrides: tuple[str, ...], quiet: bool, dry_run: bool, force: bool) -> None:
    """Train every combination of values as one sweep.

    OVERRIDES are those of `seedbed train`; a key may have several values. Quote them for the shell.

    Values:
      training.learning_rate=0.1,0.5,1       these
      'seed=range(0,10)'                     0 to 9
      'network.hidden=[4],[4,5]'             two architectures
      'data=glob(*)'                         every choice of a group

    For example:
      seedbed sweep experiment=architectures
      seedbed sweep experiment=architectures 'seed=range(0,50)'    other seeds than the file's
      seedbed sweep data=cat_shop 'seed=range(0,10)' training.learning_rate=0.1,1

    All configs are checked before the first run trains. Runs that are finished in the store are not trained again,
    but with --force.
    """
    run_words(["--multirun", *overrides], quiet, dry_run, force)


@cli.command(context_settings=OVERRIDES)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
@QUIET
@click.option("--dry-run", is_flag=True, hidden=True, expose_value=False)  # is what a plan is
@click.option("--force", is_flag=True, help="Plan as if nothing were finished in the store.")
def plan(overrides: tuple[str, ...], quiet: bool, force: bool) -> None:
    """Say what a sweep would do, and do nothing.

    OVERRIDES are those of `seedbed sweep`; `seedbed sweep --dry-run` does the same. Counts runs, cells, seeds, stacks,
    duplicates and what is finished in the store already, and estimates the time and disk that the rest will take.
    Makes no store, no experiment, no folder.

    Combinations that cannot run are counted, and the first ten listed with their reasons; the exit code is 1 then.

    For example:
      seedbed plan experiment=architectures
      seedbed plan data=cat_shop 'seed=range(0,10)' training.learning_rate=0.1,1
    """
    run_words(["--multirun", *overrides], quiet, True, force)


def run_words(words: Sequence[str], quiet: bool, dry_run: bool, force: bool) -> None:
    """Runs Hydra on the words of a command."""
    from pipeline.console import hushed
    from pipeline.words import start_hydra

    with hushed(quiet):
        start_hydra(words, dry_run, force)


@cli.command(name="list")
def list_() -> None:
    """Name the experiments and data sets."""
    from pipeline.verbs import list_everything

    list_everything()


@cli.command()
@click.argument("tutorials", nargs=-1)
def published(tutorials: tuple[str, ...]) -> None:
    """Compare every figure the tutorials print with ours.

    Trains what is needed (about a minute, nothing is stored) and prints, for each printed figure, the figure, ours, how
    many printed digits agree, and a verdict. Exit code 1 if a figure that should agree does not.

    TUTORIALS are any of happiness, exam, first_column, cat_shop; all of them if none is named.
    """
    from pipeline.verbs import print_published

    print_published(tutorials)


@cli.command()
@click.argument("words", nargs=-1)
def recover(words: tuple[str, ...]) -> None:
    """Find the lost initial weights of the exam notebook: searches from random ones for what it prints.

    WORDS: exam (the tutorial), starts=20 (how many searches), seed=0 (of their random weights).
    """
    from pipeline.lost_seeds import recover_seed

    recover_seed(words)


@cli.command(name="predict")
@click.argument("words", nargs=-1)
@click.option("--input", "file", metavar="FILE.csv", help="Rows to predict: a CSV file with the features as columns.")
def predict_(words: tuple[str, ...], file: str | None) -> None:
    """Predict new rows with a trained network.

    WORDS:
      run=RUN_ID                the run whose weights to use, or
      experiment=NAME           the run of that MLflow experiment with the lowest final loss
      rows=[[0.2,1,0.4,0.3]]    rows to predict, features in the data set's order (quote it for the shell)
      money=0.2 sandwiches=0.4  or one row by its features' names, all of them
      tracking.uri=URI          the store; else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db

    For example:
      seedbed predict experiment=happiness 'rows=[[0.2, 1.0, 0.4, 0.3]]'
      seedbed predict run=RUN_ID --input rows.csv > predictions.csv

    Predictions go to standard output as CSV; they and the inputs are in the data's own units. A value outside
    the training range is predicted, with a warning.
    """
    from pipeline.verbs import print_predictions

    print_predictions(words, file)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--folder", metavar="DIR", help="Where the pictures go. [default: show-<the end of the run id>]")
def show(words: tuple[str, ...], folder: str | None) -> None:
    """Draw what a run learned, as SVG.

    Trains it again (nothing is stored) and looks at it on the way: network.svg (weights before and after),
    predictions.svg, surface.svg (for two features), gradients.svg, saturation.svg and loss.svg.

    WORDS:
      run=RUN_ID          the run to show, or
      experiment=NAME     the run of that MLflow experiment with the lowest final loss
      tracking.uri=URI    the store; else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db

    For example:
      seedbed show experiment=exam
      seedbed show run=RUN_ID --folder pictures
    """
    from pipeline.compare.show import show_run

    show_run(words, folder)


@cli.command()
@click.argument("words", nargs=-1)
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "csv", "json", "markdown", "parquet"]),
    default="table",
    show_default=True,
    help="csv and parquet: the cell table alone; json: all of it.",
)
@click.option("--most", type=click.IntRange(1), default=20, show_default=True, help="Rows of a table for people.")
def compare(words: tuple[str, ...], form: str, most: int) -> None:
    """Say which cell of a sweep is best, by how much, and whether it is only the seed.

    A cell is a config without its seed. Prints for each cell the results over its seeds with a 95 % interval, the
    differences from the best paired by seed, with tests corrected for the number of comparisons, and what each swept
    key does.

    WORDS (which runs; else the latest sweep):
      sweep=latest|NAME|RUN_ID  a sweep, by the name or run id of its parent run
      experiment=NAME           all finished runs of an MLflow experiment, or with sweep= a sweep of it
      filter="..."              the trained runs that a filter of MLflow's finds: "params.seed = '7'"
      tracking.uri=URI          the store; else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db

    WORDS (how):
      metric=final_loss         or best_loss, updates, final_mse, ...
      by=network.hidden         group by one or more keys instead of by cell: by=network.hidden,training.epochs
      threshold=0.01            also say how many updates it takes until the loss is as low as that
      map=network.hidden,seed   instead of all this the median by two keys
      sort=worst_seed           order of the cells: any column of --format csv; sort=-mean: from high to low

    For example:
      seedbed compare
      seedbed compare experiment=architectures by=network.hidden threshold=0.01
      seedbed compare --format csv > cells.csv
    """
    from pipeline.compare.commands import print_comparison

    print_comparison(words, form, most)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--out", "file", metavar="FILE.html", default="report.html", show_default=True, help="Where to write it.")
def report(words: tuple[str, ...], file: str) -> None:
    """Write the report of a sweep: one HTML file with its curves, tables and verdicts.

    It needs no server and no network; a sweep's end writes the same file to its run in MLflow.

    WORDS: those of `seedbed compare`, without sort=.

    For example:
      seedbed report
      seedbed report sweep=RUN_ID --out happiness.html
    """
    from pipeline.compare.commands import write_report

    write_report(words, file)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--sample", type=click.IntRange(1), default=20, show_default=True, help="How many runs of a sweep.")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--stacked", is_flag=True, help="Train them as stacks, as a sweep does, instead of one by one.")
def reproduce(words: tuple[str, ...], sample: int, everything: bool, stacked: bool) -> None:
    """Train kept runs again and compare every number, bit for bit.

    Config, data and initial weights come from the store; nothing is written. Says IDENTICAL with a digest of all
    numbers, or where a run first differs (file, update or element, in ulps) and what is another than it was: the
    numerics code (which files, and the commit that has the old ones), NumPy, BLAS, the processor, or a changed file.
    Exit code 1 if a run is not identical.

    WORDS:
      run=RUN_ID[,RUN_ID]   these runs; else those of
      sweep=NAME|RUN_ID     a sweep (the latest, if none is named), a sample of them
      experiment=NAME       an MLflow experiment
      tracking.uri=URI      the store; else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db

    For example:
      seedbed reproduce
      seedbed reproduce sweep=latest --all --stacked
    """
    from pipeline.prove.commands import reproduce as reproduce_runs

    reproduce_runs(words, sample, everything, stacked)


@cli.command()
@click.argument("words", nargs=-1)
def diff(words: tuple[str, ...]) -> None:
    """Say what two kept runs differ in: config, data, code, environment, results.

    WORDS: two run ids, and tracking.uri=URI for another store than MLFLOW_TRACKING_URI or sqlite:///mlflow.db.
    """
    from pipeline.prove.commands import diff as diff_runs

    diff_runs(words)


@cli.command()
@click.argument("words", nargs=-1)
def sync(words: tuple[str, ...]) -> None:
    """Send results that wait to their store.

    A store that fails in the middle of a sweep (its server is gone, its disk full) does not stop the training: what it
    cannot take is kept in a local folder, the outbox. This sends it; so does the next start on that store.

    WORDS: tracking.uri=URI for another store than MLFLOW_TRACKING_URI or sqlite:///mlflow.db.
    """
    from pipeline.verbs import sync_store

    sync_store(words)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on; else the first free one from 5000.")
def ui(words: tuple[str, ...], port: int | None) -> None:
    """Open the MLflow UI on the store.

    It is served to this machine only, until Ctrl-C.

    WORDS: tracking.uri=URI for another store than MLFLOW_TRACKING_URI or sqlite:///mlflow.db.
    """
    from pipeline.verbs import serve_ui

    serve_ui(words, port)


@cli.command()
@click.option(
    "--folder", default="seedbed-server", show_default=True, help="Where it keeps everything; made if missing."
)
@click.option("--port", type=click.IntRange(1, 65535), help="The port to listen on; else the first free one from 5000.")
@click.option("--auth", is_flag=True, help="Ask for users and passwords (extra `auth`).")
def server(folder: str, port: int | None, auth: bool) -> None:
    """Run an MLflow server on PostgreSQL, on this machine.

    For stores that several machines share, or that outgrow a SQLite file. Makes a PostgreSQL of its own in the folder
    (the first time) and starts it and MLflow, reachable from this machine only, until Ctrl-C. The data stays.

    Then, in another terminal, here or through an ssh tunnel:
      seedbed sweep experiment=architectures tracking=server

    Needs PostgreSQL's programs and the extra `postgres`. docs/SERVER.md has other machines, passwords and backups.
    """
    from pipeline.verbs import serve_store

    serve_store(folder, port, auth)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--delete", is_flag=True, help="Delete what is listed, for good; without it nothing is deleted.")
@click.option("--killed", is_flag=True, help="Also runs that were killed before they had a result.")
def prune(words: tuple[str, ...], delete: bool, killed: bool) -> None:
    """List what the store does not need, and delete it with --delete.

    That is: runs of Seedbed's that were deleted in MLflow (in its UI, say), which MLflow only marks; folders of runs
    that no row names, and folders of work that was cut off, both as a killed process leaves them, after an hour.
    Nothing of other tools.

    WORDS: tracking.uri=URI for another store than MLFLOW_TRACKING_URI or sqlite:///mlflow.db.

    For example:
      seedbed prune
      seedbed prune --delete
    """
    from pipeline.verbs import prune_store

    prune_store(words, delete, killed)


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 good, 1 a user's error or failed runs, 130 interrupted (also by SIGTERM, SIGHUP)."""
    for kind in (signal.SIGTERM, signal.SIGHUP):  # as by Ctrl-C: what is open is closed
        signal.signal(kind, signal.default_int_handler)
    guard_stderr()
    code = exit_code(list(sys.argv[1:] if words is None else words))
    if code == INTERRUPTED:  # Python 3.11 remembers a Ctrl-C that came out of an exec, and would end by its signal
        eval("0")  # noqa: S307  # forgets it
    gc.freeze()  # else the interpreter searches all of MLflow for garbage before it ends, for up to two seconds
    sys.exit(code)


def exit_code(words: list[str]) -> int:
    """Runs a command; prints a user's error as one sentence."""
    try:
        code = cli.main(words, prog_name="seedbed", standalone_mode=False)
    except UserError as error:
        return complain(str(error))
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return complain(f"{error.format_message().rstrip('.')}: see `seedbed --help`.")
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    return code if isinstance(code, int) else 0


def complain(sentence: str) -> int:
    """Prints an error and gives its exit code."""
    click.echo(f"error: {redacted(sentence)}", err=True)
    return 1


if __name__ == "__main__":
    main()
