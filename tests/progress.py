"""What a command says on standard error, without the lines of progress that only a slow or busy machine gets."""

import re

LINE = re.compile(r"^\d+%(, .*)?\n", re.MULTILINE)  # every LINE_EVERY seconds


def complaints(said: str) -> str:
    """Notes and errors."""
    return LINE.sub("", said)
