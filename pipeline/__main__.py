"""The command line: `seedbed <verb>`, also as `python -m pipeline <verb>`."""

import errno
import gc
import io
import os
import signal
import sys
from collections.abc import Sequence

# Before NumPy is loaded. More threads gain nothing on small products, and share large ones out by their width: then the
# bits of numerics=fast would depend on how many runs train together.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

INTERRUPTED = 130

try:
    import click

    from pipeline.cli import cli
    from pipeline.credentials import guard_stderr, redacted
    from pipeline.errors import UserError
except KeyboardInterrupt:  # the imports take a third of a second
    print("interrupted", file=sys.stderr)
    sys.exit(INTERRUPTED)


def main(words: Sequence[str] | None = None) -> None:
    """Runs a command and exits: 0 good, 1 a user's error or failed runs, 130 interrupted (also by SIGTERM, SIGHUP)."""
    for kind in (signal.SIGTERM, signal.SIGHUP):  # as by Ctrl-C: what is open is closed
        signal.signal(kind, signal.default_int_handler)
    say_all_characters()
    guard_stderr()
    code = exit_code(list(sys.argv[1:] if words is None else words))
    if code == INTERRUPTED:  # Python 3.11 remembers a Ctrl-C that came out of an exec, and would end by its signal
        eval("0")  # noqa: S307  # forgets it
    gc.freeze()  # else the interpreter searches all of MLflow for garbage before it ends, for up to two seconds
    sys.exit(code)


def say_all_characters() -> None:
    """Lets output in ASCII escape what it has no character for, where it would end with an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


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
        context = getattr(error, "ctx", None)  # of the verb that the words were for
        verb = context.command_path if context else "seedbed"
        return complain(f"{error.format_message().rstrip('.')}: see `{verb} --help`.")
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except OSError as error:
        if error.errno != errno.ENOSPC or error.filename:
            raise
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # else the interpreter tries once more at its end
        return complain("The output cannot be written, as its disk is full: make room on it, or write elsewhere.")
    return code if isinstance(code, int) else 0


def complain(sentence: str) -> int:
    """Prints an error and gives its exit code."""
    click.echo(f"error: {redacted(sentence)}", err=True)
    return 1


if __name__ == "__main__":
    main()
