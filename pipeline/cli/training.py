"""Verbs that train: `train`, `sweep`, `plan`."""

from collections.abc import Sequence

import click

from pipeline.cli.group import cli

OVERRIDES = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}
QUIET = click.option("-q", "--quiet", is_flag=True, help="Print nothing but notes, failed runs and errors.")
FORCE = click.option("--force", is_flag=True, help="Train what is finished in the store again, as new runs.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Only say what would be done (see `seedbed plan`).")


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
      data=         happiness, exam, first_column, cat_shop, digits, csv (a table of your own)
      init=         normal, uniform, xavier, he, constant, given
      tracking=     mlflow, server (an MLflow server), none
      executor=     auto, serial, processes (with executor.workers=2; else one a core), dask, futures

    Keys (tuned):
      network.hidden=[4,5]  network.bias=true  network.activation=sigmoid|tanh|relu|leaky_relu|identity
      network.output_activation=...|softmax    network.activation=[tanh,relu]   (one a hidden layer)
      training.learning_rate=0.5  training.epochs=1000  training.loss=half_sse|sse|mse|bce|cross_entropy
      training.metrics=[mse,accuracy]  training.batch_size=64  training.optimizer=sgd|momentum|nesterov|adam
      training.l2=0.001  training.patience=20  training.schedule=step|exponential|inverse_time|cosine
      seed=7  numerics=portable|fast
      tracking.uri=sqlite:///runs.db  tracking.experiment=NAME
      register=true   makes an MLflow model of the run (of a sweep: its best), as `seedbed register` does
      data.X=[[0,0],[0,1],[1,0],[1,1]]  data.y=[0,1,1,0]  data.scaling=none|max|divide|standard
      data.drop=[sandwiches]  data.validation=0.2  data.test=0.1  data.stratify=true
      data.path=my.csv  data.target=[score]  data.features=[hours,slept]  data.categorical=[city]   (data=csv)
      data.draw=500  data.noise=0.6  data.training_rows=20  data.label_noise=0.1  data.outliers=0.05
      data.task=regression|classes  data.missing=drop_rows|mean|median  data.groups=who  data.rows=name

    Hydra's options:
      --cfg job     print the composed config and stop (with --resolve, resolved)
      --info        print how it was composed
      --multirun    the same as `seedbed sweep`

    For example:
      seedbed train experiment=happiness training.epochs=400
      seedbed train data=cat_shop network.hidden=[8] network.bias=true seed=3
      seedbed train data=csv data.path=my.csv data.target=[score] data.validation=0.2

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
      'data=glob(*,exclude=csv)'             every choice of a group but one

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
    from pipeline.application.words import start_hydra
    from pipeline.terminal import hushed

    with hushed(quiet):
        start_hydra(words, dry_run, force)
