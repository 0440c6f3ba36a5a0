"""The command line: `seedbed <verb>`, also as `python -m pipeline <verb>`."""

import sys
from collections.abc import Sequence

import click

from pipeline import __version__
from pipeline.errors import UserError

OVERRIDES = {"ignore_unknown_options": True, "help_option_names": ["-h", "--help"]}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="seedbed")
def cli() -> None:
    r"""Train families of small NumPy networks from configs, and keep every run in MLflow.

    \b
    Try:
      seedbed train experiment=happiness      one run; its figures are those of the tutorial
      seedbed sweep experiment=architectures  480 runs: architectures x seeds x learning rates x epochs
      seedbed ui                              look at them in MLflow
    """


@cli.command(context_settings=OVERRIDES)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def train(overrides: tuple[str, ...]) -> None:
    r"""Train one run from a config.

    OVERRIDES are Hydra's: key=value words that change the default config (conf/config.yaml), and Hydra's own options.

    \b
    Groups (swapped whole):
      experiment=   a file of experiments/ (see `seedbed list`)
      data=         happiness, exam, first_column, cat_shop
      init=         normal, uniform, given
      tracking=     mlflow, none
      executor=     auto, serial
    \b
    Keys (tuned):
      network.hidden=[4,5]  network.bias=true
      training.learning_rate=0.5  training.epochs=1000  training.loss=half_sse|sse|mse
      training.metrics=[mse,mean_abs]  seed=7  numerics=portable|fast
      tracking.uri=sqlite:///runs.db  tracking.experiment=NAME
      data.X=[[0,0],[0,1],[1,0],[1,1]]  data.y=[0,1,1,0]  data.scaling=none|max|divide|standard
    \b
    Hydra's options:
      --cfg job     print the composed config and stop (with --resolve, resolved)
      --info        print how it was composed
      --multirun    the same as `seedbed sweep`
    \b
    Examples:
      seedbed train experiment=happiness training.epochs=400
      seedbed train data=cat_shop network.hidden=[8] network.bias=true seed=3
    \b
    The same config again is found in MLflow and not trained a second time.
    """
    from pipeline.words import start_hydra

    start_hydra(overrides)


@cli.command(context_settings=OVERRIDES)
@click.argument("overrides", nargs=-1, type=click.UNPROCESSED)
def sweep(overrides: tuple[str, ...]) -> None:
    r"""Train every combination of values as one sweep.

    OVERRIDES are those of `seedbed train`; a key may have several values. Quote them for the shell.

    \b
    Values:
      training.learning_rate=0.1,0.5,1       these
      'seed=range(0,10)'                     0 to 9
      'network.hidden=[4],[4,5]'             two architectures
      'data=glob(*)'                         every choice of a group
    \b
    Examples:
      seedbed sweep experiment=architectures
      seedbed sweep experiment=architectures 'seed=range(0,50)'    other seeds than the file's
      seedbed sweep data=cat_shop 'seed=range(0,10)' training.learning_rate=0.1,1
    \b
    All configs are checked before the first run trains. Runs that are finished in the store are not trained again.
    """
    from pipeline.words import start_hydra

    start_hydra(["--multirun", *overrides])


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 good, 1 a user's error or failed runs, 130 interrupted."""
    sys.exit(exit_code(list(sys.argv[1:] if words is None else words)))


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
        return 130
    return code if isinstance(code, int) else 0


def complain(sentence: str) -> int:
    """Prints an error and gives its exit code."""
    click.echo(f"error: {sentence}", err=True)
    return 1


if __name__ == "__main__":
    main()
