"""deploy/: PostgreSQL, an S3 store, MLflow with passwords and a TLS proxy, brought up from its files, and used.

All real, on loopback: what the units start is started here by deploy/try_it.py.
"""

import contextlib
import importlib
import os
import re
import shlex
import shutil
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy.try_it import FILES, PORTS, Place, check_installed
from pipeline.errors import UserError
from tests.conftest import in_process, seedbed
from tests.documents import PAGES, blocks
from tests.processes import descendants, left_after, until_ctrl_c
from tests.routes import basic

ROOT = FILES.parent
SWEEP = ("sweep", "data=cat_shop", "network.hidden=[2],[4]", "seed=range(0,3)", "training.epochs=20")
TRAIN = ("train", "data=cat_shop", "training.epochs=20")
STORED = {"weights.npz", "loss.npz", "predictions.json", "weights.json", "config.yaml", "environment.json"}
PASSWORD = "correct horse"  # noqa: S105  # of a user of the test
(SNIPPET,) = [block.body for block in blocks(PAGES["deploy/README.md"]) if block.language == "python"]


@dataclass(frozen=True)
class Site:
    """All parts, running."""

    process: subprocess.Popen[str]
    folder: Path
    address: str
    certificate: str

    def setting(self, file: str, name: str) -> str:
        """A line of one of its files."""
        (value,) = re.findall(rf"(?m)^{name}=(.+)$", (self.folder / "etc" / file).read_text())
        return str(value)

    def bucket(self) -> dict[str, bytes]:
        """Everything in the bucket, by key, read by S3's own client with its keys."""
        client = importlib.import_module("boto3").client(
            "s3",
            endpoint_url=self.setting("environment", "MLFLOW_S3_ENDPOINT_URL"),
            region_name="us-east-1",
            aws_access_key_id=self.setting("s3.secrets", "AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=self.setting("s3.secrets", "AWS_SECRET_ACCESS_KEY"),
        )
        pages = client.get_paginator("list_objects_v2").paginate(Bucket="seedbed")
        keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
        return {key: client.get_object(Bucket="seedbed", Key=key)["Body"].read() for key in keys}


@contextlib.contextmanager
def site(folder: Path) -> Iterator[Site]:
    """Brings everything up in the folder; SIGKILLs it at the end if it is still there."""
    words = [sys.executable, str(FILES / "try_it.py"), str(folder)]
    with until_ctrl_c(words) as (process, told):
        exports = dict(word.split("=", 1) for word in shlex.split(told) if word.startswith("MLFLOW_"))
        yield Site(process, folder, exports["MLFLOW_TRACKING_URI"], exports["MLFLOW_TRACKING_SERVER_CERT_PATH"])


@pytest.fixture
def needs_everything() -> None:
    """Skips, with the reason, where a part is missing."""
    try:
        check_installed()
    except UserError as error:
        pytest.skip(str(error))


def refused(folder: Path, address: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one sentence with which training into the address is refused."""
    capsys.readouterr()
    assert in_process([*TRAIN, f"tracking.uri={address}"], folder) == 1
    (sentence,) = capsys.readouterr().err.splitlines()
    return sentence


def administrate(running: Site, code: str) -> None:
    """The administrator runs some Python of deploy/README.md; who asks for a password gets one."""
    login = {
        "MLFLOW_TRACKING_SERVER_CERT_PATH": running.certificate,
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": running.setting("mlflow.secrets", "MLFLOW_AUTH_ADMIN_PASSWORD"),
    }
    code = code.replace("https://seedbed.example.org", running.address).replace("getpass()", repr(PASSWORD))
    subprocess.run([sys.executable, "-c", code], env=os.environ | login, check=True)


@pytest.mark.slow
@pytest.mark.usefixtures("needs_everything")
def test_a_user_trains_through_the_proxy_into_the_bucket(
    open_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work, home = open_folder / "work", open_folder / "site"
    work.mkdir()
    with site(home) as running:
        administrate(running, SNIPPET.partition("users.grant")[0])  # adds ada
        store = f"tracking.uri={running.address}"
        check_strangers(running, work, monkeypatch, capsys)
        log_in(running, monkeypatch)
        done = seedbed(*SWEEP, store, cwd=work)
        assert done.returncode == 0, done.stderr
        assert "6 runs: 6 trained" in done.stdout
        check_assistant(running)
        assert "POST /api/seedbed/runs" in (home / "log" / "mlflow").read_text()  # whole, through proxy and login
        check_bucket(running)
        read_back(store, work)
        family = {running.process.pid, *descendants(running.process.pid)}
        assert len(family) > 12  # four leashes, PostgreSQL's six, SeaweedFS, MLflow's, nginx's
        running.process.kill()
        assert not left_after(120, family)
    with site(home) as running:  # all was kept
        done = seedbed(*SWEEP, f"tracking.uri={running.address}", cwd=work)
        assert "6 runs, 6 of them finished already" in done.stdout
        predict(f"tracking.uri={running.address}", work)
        administrate(running, SNIPPET.replace('"ada"', '"eve"'))  # all of it: eve comes, and goes
        family = {running.process.pid, *descendants(running.process.pid)}
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(300) == 0
        assert not left_after(60, family)


def check_assistant(running: Site) -> None:
    """MLflow's assistant runs commands on the server for who comes from it; nobody does here, whatever they say."""
    trusted = ssl.create_default_context(cafile=running.certificate)
    headers = {"X-Forwarded-For": "127.0.0.1", **basic("ada", PASSWORD)}
    asked = urllib.request.Request(f"{running.address}/ajax-api/3.0/mlflow/assistant/config", headers=headers)  # noqa: S310
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(asked, timeout=120, context=trusted)  # noqa: S310


def log_in(running: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gives all later commands ada's environment."""
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "ada")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", running.certificate)


def check_bucket(running: Site) -> None:
    """Six runs' files are in the bucket, and nowhere else."""
    found = running.bucket()
    runs = [key.rpartition("/")[0] for key in found if key.endswith("/weights.npz")]
    assert len(runs) == 6
    for run in runs:
        assert run.startswith("artifacts/")
        assert {key.rpartition("/")[2] for key in found if key.startswith(f"{run}/")} >= STORED
        assert found[f"{run}/weights.npz"].startswith(b"PK")
    assert not list((running.folder / "artifacts").iterdir())
    assert not list((running.folder / "seedbed-mlflow").iterdir())


def read_back(store: str, work: Path) -> None:
    """What a client reads comes through the proxy: it knows neither the bucket nor its keys."""
    compared = seedbed("compare", store, cwd=work)
    assert (compared.returncode, compared.stderr) == (0, "")
    assert "[4]" in compared.stdout
    assert seedbed("report", store, cwd=work).returncode == 0
    assert (work / "report.html").stat().st_size > 10_000
    (work / "report.html").unlink()
    predict(store, work)


def predict(store: str, work: Path) -> None:
    """A prediction needs a run's weights."""
    predicted = seedbed("predict", store, "experiment=cat_shop", "rows=[[0,1,1]]", cwd=work)
    assert predicted.returncode == 0, predicted.stderr
    assert re.search(r"0\.\d+", predicted.stdout)


def check_strangers(
    running: Site, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Who is not let in is told why, in one sentence."""
    address = running.address
    assert refused(work, address, capsys) == (
        f"error: The certificate of {address} is not trusted (self-signed certificate): name a file with its CA's "
        "certificate in MLFLOW_TRACKING_SERVER_CERT_PATH, or write the name that it was made for."
    )
    monkeypatch.setenv("MLFLOW_TRACKING_SERVER_CERT_PATH", "/nowhere/ca.pem")
    assert refused(work, address, capsys) == (
        "error: MLFLOW_TRACKING_SERVER_CERT_PATH is /nowhere/ca.pem, which does not exist: name a file with the CA's "
        "certificate."
    )
    log_in(running, monkeypatch)
    plain = address.replace("https", "http")
    assert refused(work, plain, capsys) == f"error: The server at {plain} wants TLS: write https:// in tracking.uri."
    other = address.replace("127.0.0.1", "localhost")  # in the certificate, yet not a name that MLFLOW answers for
    assert refused(work, other, capsys).endswith(": ask the server by a name that its MLFLOW_SERVER_ALLOWED_HOSTS has.")
    behind = f"https://127.0.0.1:{port_of(running)}"
    assert refused(work, behind, capsys).startswith(f"error: The server at {behind} does not speak TLS as we do (")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong")
    assert refused(work, address, capsys) == (
        f"error: The store {address} cannot be used (401 Unauthorized: You are not authenticated): log in with "
        "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD."
    )


def port_of(running: Site) -> str:
    """The port of MLflow itself, which speaks plain HTTP, to the proxy only."""
    (port,) = re.findall(r"proxy_pass http://127\.0\.0\.1:(\d+);", (running.folder / "etc" / "nginx.conf").read_text())
    return str(port)


def test_everything_that_the_trial_replaces_stands_in_a_file(tmp_path: Path) -> None:
    """Else the trial would try something else than the files say."""
    texts = "".join(file.read_text() for file in FILES.iterdir() if file.is_file() and file.name != "try_it.py")
    for real in Place(tmp_path, PORTS).replacements():
        assert real in texts, real


def test_the_files_have_no_secret_and_name_no_other_address_than_loopback() -> None:
    for name in ("environment", "auth.ini", "nginx.conf", "seedbed-s3.service", "seedbed-mlflow.service"):
        text = (FILES / name).read_text()
        assert not re.search(r"(?i)^[^#\n]*(password|secret_?\w*|access_key\w*) *=", text, re.MULTILINE), name
        assert set(re.findall(r"\b\d+\.\d+\.\d+\.\d+\b", text)) <= {"127.0.0.1"}, name


def test_the_page_tells_of_every_file() -> None:
    page = (FILES / "README.md").read_text()
    for file in FILES.iterdir():
        if file.is_file() and file.name != "README.md":
            assert file.name in page, file.name


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path) -> None:
    for name in ("seedbed-s3", "seedbed-mlflow"):
        text = (FILES / f"{name}.service").read_text()
        text = re.sub(r"/opt/seedbed/bin/\w+", sys.executable, text)  # it looks for the program
        (tmp_path / f"{name}.service").write_text(text)
    units = sorted(map(str, tmp_path.iterdir()))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    said = [line for line in done.stderr.splitlines() if "seedbed" in line]
    assert (done.returncode, said) == (0, [])
