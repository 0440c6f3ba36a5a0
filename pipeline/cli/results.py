"""Verbs that look at what was trained: `list`, `predict`, `show`, `compare`, `report`, `register`."""

import click

from pipeline.cli.group import cli


@cli.command(name="list")
def list_() -> None:
    """Name the experiments and data sets."""
    from pipeline.verbs.listing import list_everything

    list_everything()


@cli.command(name="predict")
@click.argument("words", nargs=-1)
@click.option("--input", "file", metavar="FILE.csv", help="Rows to predict: a CSV file with the features as columns.")
def predict_(words: tuple[str, ...], file: str | None) -> None:
    """Predict new rows with a trained network.

    WORDS:
      run=RUN_ID                the run whose weights to use, or
      experiment=NAME           the run of that MLflow experiment with the lowest final loss, or
      model=NAME@champion       a registered model (or NAME@ALIAS, NAME/VERSION)
      rows=[[0.2,1,0.4,0.3]]    rows to predict, features in the data set's order (quote it for the shell)
      money=0.2 sandwiches=0.4  or one row by its features' names, all of them
      tracking.uri=URI          the store; else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db

    For example:
      seedbed predict experiment=happiness 'rows=[[0.2, 1.0, 0.4, 0.3]]'
      seedbed predict run=RUN_ID --input rows.csv > predictions.csv

    Predictions go to standard output as CSV; they and the inputs are in the data's own units. A value outside
    the training range is predicted, with a warning.
    """
    from pipeline.verbs.predict import print_predictions

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
    from pipeline.pictures.show import show_run

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
      metric=final_loss         or val_loss (usual with validation rows), best_loss, val_accuracy, ...
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
    from pipeline.report.commands import write_report

    write_report(words, file)


@cli.command()
@click.argument("words", nargs=-1)
def register(words: tuple[str, ...]) -> None:
    """Register the best run of a sweep as an MLflow model, with the alias champion.

    The best run is the best seed of the cell with the best median over its seeds; diverged runs never win. The model
    takes and gives the data's own units: scaling is part of it. It needs NumPy, pandas and MLflow, not Seedbed, and
    has no pickle. A run that is registered already gets the alias, and no new version.

    WORDS:
      sweep=latest|NAME|RUN_ID  the sweep; the latest, if nothing is named
      experiment=NAME           all finished runs of an MLflow experiment, or with sweep= a sweep of it
      run=RUN_ID                or this run
      name=NAME                 the model's name; else the MLflow experiment's
      metric=final_loss         or best_loss, updates, final_mse, ...
      tracking.uri=URI          the store; else MLFLOW_TRACKING_URI, else sqlite:///mlflow.db

    For example:
      seedbed register
      seedbed register experiment=exam name=score metric=final_mse
    """
    from pipeline.model.commands import register_by_words

    register_by_words(words)
