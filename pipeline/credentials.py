"""Passwords in a store's address: out of what is printed, and out of what Hydra writes.

An address with a password goes to an environment variable of this process, and words and configs look it up there
(`${oc.env:SEEDBED_URI_1}`), so that no file that Hydra writes of them can hold it.
"""

import base64
import os
import re
import sys
from collections.abc import Iterator
from typing import Any, TextIO
from urllib.parse import quote, quote_plus, unquote

from pipeline.errors import UserError

PREFIX = "SEEDBED_URI_"
ENVIRONMENT = ("MLFLOW_TRACKING_URI", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "PGPASSWORD")
SQLITE = ("sqlite", "sqlite+pysqlite")
FILES = ("file://", "pkg://")  # where Hydra looks for configs
ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^\s\"']+")
LOOK_UP = re.compile(r"\$\{[^{}]*\}")
LITERAL_PASSWORD = re.compile(r"://[^/@]*:[^@]+@|(?i:pass|pwd|token|secret)[^=&]*=[^&]+")
SECRET_OPTION = re.compile(r"(?i)pass|pwd|token|secret|key")
SHORT = 4  # a password of fewer characters is replaced where it is a word of its own


def public_uri(uri: str | None) -> str | None:
    """A tracking URI without what may be a secret: user, password and query. A SQLite file's path may have an @."""
    if uri is None:
        return None
    scheme, mark, rest = uri.partition("://") if "://" in uri else ("", "", uri)
    place, _, query = rest.partition("?")
    if "@" in query and scheme not in SQLITE:  # a ? in the password: nothing before it can be told from it
        place = "..."
    elif "@" in place and not (scheme in SQLITE and place.startswith("/")):
        place = place.rpartition("@")[2]
    return f"{scheme}{mark}{place}"


def public_text(text: str) -> str:
    """A text with every address in it without what may be a secret."""
    return ADDRESS.sub(lambda match: public_uri(match[0]) or "", text)


def has_secret(text: str) -> bool:
    """True for an address that must not be written down as it is.

    One that looks its password up (`${...}`) may be: raises UserError if it holds another one beside.
    """
    if "://" not in text or text.startswith(FILES) or public_uri(text) == text:
        return False
    if "${" not in text:
        return True
    if LITERAL_PASSWORD.search(LOOK_UP.sub("", text)):
        raise UserError(
            f"The address {public_text(text)} has a password beside what it looks up with ${{...}}: look up the "
            "password too, or the whole address, as in ${oc.env:MY_STORE}."
        )
    return False


def hidden(address: str) -> str:
    """What to write instead of an address: the look-up of an environment variable, which this process gets for it."""
    names = {value: name for name, value in os.environ.items() if name.startswith(PREFIX)}
    name = names.get(address) or f"{PREFIX}{len(names) + 1}"
    os.environ[name] = address
    return f"${{oc.env:{name}}}"


def without_secrets(value: Any) -> Any:
    """A plain value (of dicts, lists, texts) with its addresses that hold a secret `hidden`. Raises UserError."""
    if isinstance(value, dict):
        return {key: without_secrets(item) for key, item in value.items()}
    if isinstance(value, list):
        return [without_secrets(item) for item in value]
    return hidden(value) if isinstance(value, str) and has_secret(value) else value


def redacted(text: str) -> str:
    """A text, of a library too, without the secrets of this process: whole addresses or their parts, encoded or not."""
    known = {value: public_uri(value) or "" for value in addresses()}
    for address in sorted(known, key=len, reverse=True):
        text = text.replace(address, known[address])
    pieces = re.split("({})".format("|".join(map(re.escape, known.values())) or "$^"), text)
    secrets = [pattern for value in (*known, *passwords()) for pattern in patterns(value)]
    for pattern in secrets:  # a database may be called as its user's password is: the public address stays whole
        pieces[::2] = [re.sub(pattern, "...", piece) for piece in pieces[::2]]
    return public_text("".join(pieces))


def addresses() -> list[str]:
    """The addresses with a secret that this process knows of."""
    names = [name for name in os.environ if name.startswith(PREFIX) or name == "MLFLOW_TRACKING_URI"]
    return [os.environ[name] for name in names if public_uri(os.environ[name]) != os.environ[name]]


def passwords() -> list[str]:
    """The passwords that the environment holds for MLflow's and PostgreSQL's clients, as addresses of that password."""
    values = [os.environ.get(name, "") for name in ENVIRONMENT[1:]]
    return [f"any://:{quote(value, safe='')}@" for value in values if value]


def patterns(address: str) -> Iterator[str]:
    """Regular expressions for the parts of an address that are secret, the longest first."""
    place, _, query = address.partition("://")[2].partition("?")
    user, _, password = place.rpartition("@")[0].partition(":")
    if "@" in query:  # a ? in the password
        user, _, password = address.partition("://")[2].rpartition("@")[0].partition(":")
    options = [option.partition("=") for option in query.split("&")]
    values = [password, *(value for name, _, value in options if SECRET_OPTION.search(name))]
    forms = {form for value in values if value for form in encodings(value)}
    if password:
        forms.add(base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode())
    for form in sorted(forms, key=len, reverse=True):
        yield re.escape(form) if len(form) >= SHORT else rf"(?<!\w){re.escape(form)}(?!\w)"
    for form in encodings(user) if user else ():  # only where it is named: it may be a word like any other
        yield rf"(?<=[\"']){re.escape(form)}(?=[\"'])|(?<=user=){re.escape(form)}\b"


def encodings(value: str) -> set[str]:
    """A part of an address as it stands there, and as libraries may write it."""
    plain = unquote(value)
    return {value, plain, quote(plain), quote(plain, safe=""), quote_plus(plain), repr(plain)[1:-1]}


class Redacted:
    """A text stream that writes what it is given `redacted`, and is otherwise the stream that it was made of."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Writes a text without the secrets in it."""
        self._stream.write(redacted(text))
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Writes texts without the secrets in them."""
        self._stream.writelines(map(redacted, lines))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def guard_stderr() -> None:
    """Has this process write standard error without secrets: messages, libraries' logs and tracebacks."""
    if not isinstance(sys.stderr, Redacted):
        sys.stderr = Redacted(sys.stderr)
