"""Verbs that prove figures: `published`, `findings`, `recover`, `reproduce`, `diff`."""

import click

from pipeline.cli.group import cli


@cli.command()
@click.argument("tutorials", nargs=-1)
def published(tutorials: tuple[str, ...]) -> None:
    """Compare every figure the tutorials print with ours.

    Trains what is needed (about a minute, nothing is stored) and prints, for each printed figure, the figure, ours, how
    many printed digits agree, and a verdict. Exit code 1 if a figure that should agree does not.

    TUTORIALS are any of happiness, exam, first_column, cat_shop; all of them if none is named.
    """
    from pipeline.verbs.figures import print_published

    print_published(tutorials)


@cli.command()
@click.argument("words", nargs=-1)
@click.option("--write", "folder", metavar="DIR", help="Also write FINDINGS.md and its pictures into a folder.")
def findings(words: tuple[str, ...], folder: str | None) -> None:
    """Answer the tutorials' questions anew: run their sweeps, and say whether the answers still hold.

    For each question (depth, width, sandwiches, ...: see docs/FINDINGS.md) runs the sweep of its experiment (what is
    finished in the store is found), compares two arms that were declared before, over their seeds, and prints the
    difference, its interval, and whether the verdict is the SAME as in experiments/findings/. If one is DIFFERENT, the
    exit code is 1.

    WORDS: names of findings; all if none is named. tracking.uri=URI for another store than MLFLOW_TRACKING_URI or
    sqlite:///mlflow.db.

    For example:
      seedbed findings
      seedbed findings depth width
      seedbed findings --write docs
    """
    from pipeline.findings.commands import check_findings

    check_findings(words, folder)


@cli.command()
@click.argument("words", nargs=-1)
def recover(words: tuple[str, ...]) -> None:
    """Find the lost initial weights of the exam notebook: searches from random ones for what it prints.

    WORDS: exam (the tutorial), starts=20 (how many searches), seed=0 (of their random weights).
    """
    from pipeline.verbs.lost_seeds import recover_seed

    recover_seed(words)


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
