"""The command `seedbed`, to which the other modules here add its verbs."""

import inspect

import click

from pipeline import __version__


class Verb(click.Command):
    """A command whose help is printed as it is written: it is wrapped by hand, and has tables."""

    def format_help_text(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes the help without filling paragraphs."""
        formatter.write_paragraph()
        for line in inspect.cleandoc(self.help or "").splitlines():
            formatter.write(f"  {line}".rstrip() + "\n")


ROOMS = {"training": "Train", "results": "Results", "proof": "Proofs", "stores": "Stores"}


class Verbs(Verb, click.Group):
    """The verbs, listed by the module that they stand in."""

    command_class = Verb

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Writes what each verb does in a whole sentence; click would cut it to one line."""
        for room, heading in ROOMS.items():
            verbs = {name: verb for name, verb in self.commands.items() if told_room(verb) == room}
            with formatter.section(heading):
                formatter.write_dl([(name, (verb.help or "").split("\n")[0]) for name, verb in verbs.items()])


def told_room(verb: click.Command) -> str:
    """The module that a verb stands in."""
    return getattr(verb.callback, "__module__", "").rpartition(".")[2]


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
