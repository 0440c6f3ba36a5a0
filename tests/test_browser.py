"""What a person sees of a fresh sweep in a real browser: MLflow's pages behind the links it printed, and its report.

Screenshots go to ci-artifacts/, or to the folder SEEDBED_SCREENSHOTS: look at them.
"""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, Request, expect, sync_playwright

from tests.conftest import seedbed, shared
from tests.ports import own_port
from tests.processes import until_ctrl_c

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
SWEEP = (
    *("sweep", "data=cat_shop", "network.hidden=[2],[4]", "training.learning_rate=0.5,2", "training.epochs=300,1000"),
    *("seed=range(0,5)", "tracking.experiment=seen", "tracking.report=true"),
)
RUNS, CELLS, LONGEST, ROWS = 40, 8, 20, 4
PATIENCE = 180_000  # ms: a busy machine draws a page in a few seconds, or many
# MLflow's pages ask their own server for what they may not have: a 404, and of the assistant a 403.
HARMLESS = ("/mlflow/users/current", "/gateway-proxy", "/mlflow/assistant/")
# Without it the UI's assistant takes a quarter of a first visit's page. (An about:blank has no storage.)
NO_ASSISTANT = """try {
  localStorage.setItem("mlflow.assistant.panelOpen_v1", "false")
  localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true")
} catch {}"""
# Of each chart that is drawn by Plotly: its kind and axes.
CHARTS = """() => [...document.querySelectorAll(".js-plotly-plot")].filter(plot => plot.data?.length)
  .map(plot => ({kind: plot.data[0].type, x: plot.layout.xaxis.type, y: plot.layout.yaxis.type}))"""
BY_PLACE = "rows.sort((one, other) => one.getAttribute('row-index') - other.getAttribute('row-index'))"
IS_PAINTED = """canvas => canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.some(Boolean)"""
VERDICT = re.compile(r"^hidden=\[4\] epochs=1000 learning_rate=2 is best: final loss [\d.]+ times lower")

expect.set_options(timeout=PATIENCE)


@dataclass(frozen=True)
class Site:
    """A sweep's folder, what it printed, and the address of the UI on its store."""

    folder: Path
    told: str
    address: str

    def view(self, name: str) -> str:
        """The link to a View that the sweep printed, on the port of this UI."""
        (link,) = re.findall(rf"^  {name}: http://127\.0\.0\.1:\d+(/#/\S+)$", self.told, re.MULTILINE)
        return f"{self.address}{link}"

    def run(self, run_id: str, page: str = "") -> str:
        """The link to a run's page."""
        return f"{self.address}/#/experiments/1/runs/{run_id}{page}?workflowType=machine_learning"

    @property
    def parent_id(self) -> str:
        """The sweep's own run."""
        return str(re.findall(r"under run ([0-9a-f]{32})", self.told)[0])

    @property
    def report(self) -> Path:
        """The report's file."""
        (file,) = re.findall(r"^Report: (.+)$", self.told, re.MULTILINE)
        return self.folder / str(file)


def ui_command(uri: str, port: int) -> list[str]:
    """`make ui`, or what it runs where it would first have to make or update .venv."""
    ready = subprocess.run(["make", "--question", ".venv/.ready"], cwd=ROOT, capture_output=True, check=False)
    if ready.returncode == 0:
        return ["make", "-C", str(ROOT), "ui", f"TRACKING_URI={uri}", f"ARGS=--port {port}"]
    return [sys.executable, "-m", "pipeline", "ui", f"tracking.uri={uri}", "--port", str(port)]


def sweep_in(folder: Path) -> None:
    """The sweep; what it printed is in `said`."""
    done = seedbed(*SWEEP, cwd=folder)
    assert done.returncode == 0, done.stderr
    (folder / "said").write_text(done.stdout, encoding="utf-8")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A real sweep, made once, and the real UI on it."""
    folder = shared(tmp_path_factory, "seen", sweep_in)
    words = ui_command(f"sqlite:///{folder}/mlflow.db", own_port())
    with until_ctrl_c(words, folder) as (process, told):
        (address,) = re.findall(r"MLflow UI: (http://127\.0\.0\.1:\d+)/", told)
        yield Site(folder, (folder / "said").read_text(encoding="utf-8"), address)
        process.terminate()
        process.wait(120)


def chromium() -> str:
    """The distribution's Chromium. Skips the test if there is none, where it is not required."""
    found = [path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path]
    if not found and {"CI", "SEEDBED_BROWSER"} & os.environ.keys():
        pytest.fail("There is no Chromium on PATH, and CI needs one: apt-get install chromium.")
    if not found:
        pytest.skip("There is no Chromium on PATH: apt-get install chromium.")
    return found[0]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield started
        started.close()


@dataclass  # Playwright keeps something in the object whose method it calls
class Watch:
    """What pages did that they should not: errors in the console, requests beyond those that are allowed."""

    allowed: Callable[[str], bool]
    wrong: list[str]

    def over(self, context: BrowserContext) -> BrowserContext:
        """A context whose pages, new tabs too, are watched."""
        context.set_default_timeout(PATIENCE)
        context.on("console", self.said)
        context.on("weberror", lambda error: self.failed(str(error.error)))
        context.on("request", self.asked)
        return context

    def failed(self, text: str) -> None:
        """Notes an error, unless it is the notice that a chart is sized in the next frame."""
        if "ResizeObserver loop" not in text:
            self.wrong.append(text)

    def said(self, message: ConsoleMessage) -> None:
        """Notes an error that a page printed."""
        if message.type == "error" and not any(part in message.location["url"] for part in HARMLESS):
            self.failed(f"{message.text} {message.location['url']}")

    def asked(self, request: Request) -> None:
        """Notes a request that is not allowed."""
        if not self.allowed(request.url):
            self.wrong.append(f"request to {request.url}")


def is_local(url: str) -> bool:
    """True for this machine, and for what a page has in itself."""
    parts = urlsplit(url)
    return parts.scheme in {"data", "blob"} or parts.hostname == "127.0.0.1"


def is_on_disk(url: str) -> bool:
    """True for a file, and for what a page has in itself."""
    return urlsplit(url).scheme in {"data", "file"}


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a person who was never here; nothing wrong may happen in it."""
    watch = Watch(is_local, [])
    context = watch.over(browser.new_context(viewport={"width": 1600, "height": 1000}))
    context.add_init_script(NO_ASSISTANT)
    yield context.new_page()
    context.close()
    assert watch.wrong == []


def keep(page: Page, name: str, whole: bool = False) -> None:
    """Keeps a screenshot."""
    folder = Path(os.environ.get("SEEDBED_SCREENSHOTS") or ROOT / "ci-artifacts")
    page.screenshot(path=folder / f"{name}.png", full_page=whole)


def go(page: Page, address: str) -> None:
    """Opens an address anew: another hash alone would not load the page again."""
    page.goto("about:blank")
    page.goto(address)


def charts(page: Page, count: int) -> list[dict[str, str]]:
    """The first `count` charts, once they are drawn: each is when it comes into sight."""
    cards = page.get_by_test_id("experiment-view-compare-runs-card")
    for place in range(count):
        cards.nth(place).scroll_into_view_if_needed()
        expect(cards.nth(place).locator(".js-plotly-plot .main-svg").first).to_be_visible()
    page.wait_for_function(f"({CHARTS})().length >= {count}", timeout=PATIENCE)
    cards.first.scroll_into_view_if_needed()
    drawn: list[dict[str, str]] = page.evaluate(CHARTS)
    return drawn[:count]


def names(page: Page) -> list[str]:
    """The runs of a table, as they are listed."""
    rows = page.locator(".ag-pinned-left-cols-container .ag-row")
    expect(rows.locator("a").filter(has_text=re.compile(r"s\d"))).to_have_count(RUNS)
    found: list[str] = rows.evaluate_all(f"rows => {BY_PLACE}.map(row => row.querySelector('a').innerText)")
    return found


def column(page: Page, name: str) -> list[float]:
    """The numbers of a table's column, as they are listed."""
    rows = page.locator(".ag-center-cols-container .ag-row")
    expect(rows.locator(f"[col-id*='{name}']").filter(has_text=re.compile(r"\d"))).to_have_count(RUNS)
    numbers = f"(rows, name) => {BY_PLACE}.map(row => Number(row.querySelector(`[col-id*='${{name}}']`).innerText))"
    found: list[float] = rows.evaluate_all(numbers, name)
    return found


def best_run(page: Page, site: Site) -> str:
    """The id of the run that the table has first."""
    go(page, site.view("All runs: settings and results"))
    link = page.locator(".ag-pinned-left-cols-container .ag-row[row-index='0'] a").first
    return str(link.get_attribute("href")).rsplit("/", 1)[1]


def table_rows(page: Page) -> Locator:
    """The rows of an artifact that is shown as a table, its head included."""
    expect(page.get_by_text("View as table")).to_be_visible()
    return page.get_by_role("row")


# --- the sweep's own pages --------------------------------------------------------------------------------------


def test_the_list_of_experiments_begins_a_description_with_the_verdict(page: Page, site: Site) -> None:
    go(page, f"{site.address}/#/experiments")
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="seen"))
    expect(row).to_contain_text("hidden=[4] epochs=1000 learning_rate=2 is best")
    keep(page, "experiments")


def test_the_table_shows_the_runs_best_first_with_the_columns_that_matter(page: Page, site: Site) -> None:
    go(page, site.view("All runs: settings and results"))
    expect(page.locator("body")).to_contain_text(f"{RUNS} matching runs")
    expect(page.locator(".ag-center-cols-container .ag-row")).to_have_count(RUNS)
    keep(page, "table")
    assert set(names(page)) == {
        f"{width} lr{rate} s{seed}" for width in (2, 4) for rate in (0.5, 2) for seed in range(5)
    }
    page.set_viewport_size({"width": 2600, "height": 1000})  # the UI makes columns that are in sight only
    shown = page.locator(".ag-header-cell")
    for title in ("network.hidden", "training.epochs", "training.learning_rate", "seed", "cell"):
        expect(shown.filter(has_text=title).first).to_be_visible()
    losses = column(page, "result/final_loss")
    assert len(losses) == RUNS
    assert losses == sorted(losses)
    assert losses[0] < 0.01
    assert losses[-1] > 0.1


@pytest.mark.parametrize(
    ("name", "groups"),
    [
        ("Loss curves by architecture", ["[4]", "[2]"]),
        ("Loss curves by cell", ["4 lr2 e1000", "4 lr0.5 e1000", "2 lr2 e1000", "2 lr0.5 e1000"]),
    ],
)
def test_loss_curves_are_drawn_in_groups_on_log_axes(page: Page, site: Site, name: str, groups: list[str]) -> None:
    go(page, site.view(name))
    expect(page.locator("body")).to_contain_text(f"{LONGEST} matching runs")
    assert charts(page, 2) == [{"kind": "scatter", "x": x, "y": "log"} for x in ("linear", "log")]
    for card in page.get_by_test_id("experiment-view-compare-runs-card").all()[:2]:
        expect(card.locator(".scatterlayer .trace").nth(len(groups) - 1)).to_be_attached()
        for group in groups:
            expect(card).to_contain_text(group)
    keep(page, name.replace(" ", "-").lower())


def test_the_ten_best_runs_are_drawn(page: Page, site: Site) -> None:
    go(page, site.view("Ten best runs"))
    assert [(chart["kind"], chart["y"]) for chart in charts(page, 3)] == [
        ("scatter", "log"),
        ("scatter", "log"),
        ("bar", "category"),
    ]
    expect(page.locator(".bars .point").nth(9)).to_be_attached()
    keep(page, "ten-best-runs")


def test_parallel_coordinates_are_drawn(page: Page, site: Site) -> None:
    go(page, site.view("Parallel coordinates"))
    chart = page.get_by_test_id("experiment-view-compare-runs-card").first
    expect(chart.locator(".dimension")).to_have_count(5)  # three swept keys, the seed, the result
    page.wait_for_function(f"() => ({IS_PAINTED})(document.querySelector('canvas.foreground'))", timeout=PATIENCE)
    keep(page, "parallel-coordinates")


def test_the_note_begins_with_the_verdict_and_its_links_open(page: Page, site: Site) -> None:
    go(page, f"{site.address}/#/experiments/1/runs?workflowType=machine_learning")
    expect(page.get_by_text(VERDICT)).to_be_visible()
    page.get_by_test_id("experiment-metadata-editor-edit-button").locator("xpath=following::button[1]").click()
    for name in ("Loss curves by cell", "Report of the latest sweep"):
        expect(page.get_by_role("link", name=name)).to_be_visible()
    keep(page, "note")
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Loss curves by cell").click()
    expect(opened.value.get_by_text("Group by: cell")).to_be_visible()
    charts(opened.value, 2)
    with page.context.expect_page() as opened:
        page.get_by_role("link", name="Report of the latest sweep").click()
    expect(opened.value.frame_locator("iframe").get_by_role("heading", level=1)).to_contain_text("Sweep seen")


def test_two_runs_are_compared(page: Page, site: Site) -> None:
    go(page, site.view("All runs: settings and results"))
    boxes = page.locator(".ag-pinned-left-cols-container .ag-selection-checkbox input")
    for place in range(2):
        boxes.nth(place).click()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", name="Comparing 2 Runs")).to_be_visible()
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible()
    keep(page, "compared")


def test_a_run_shows_its_predictions_and_the_best_one_its_network(page: Page, site: Site) -> None:
    best = best_run(page, site)
    go(page, site.run(best, "/artifacts/predictions.json"))
    expect(table_rows(page)).to_have_count(1 + ROWS)
    expect(page.get_by_role("row").first).to_contain_text("prediction")
    keep(page, "predictions")
    go(page, site.run(best, "/artifacts/network.svg"))
    expect(page.locator("img[src^='blob:']").first).to_be_visible()
    page.wait_for_function("""document.querySelector("img[src^='blob:']").naturalWidth > 0""")
    keep(page, "network")


def test_the_sweeps_run_has_the_verdict_the_report_and_the_cells(page: Page, site: Site) -> None:
    go(page, site.run(site.parent_id))
    expect(page.get_by_text(VERDICT)).to_be_visible()
    keep(page, "sweep")
    go(page, site.run(site.parent_id, "/artifacts/report.html"))
    report = page.frame_locator("iframe")
    expect(report.get_by_text(VERDICT)).to_be_visible()
    expect(report.locator("figure svg").first).to_be_visible()
    expect(report.locator("figure svg").nth(4)).to_be_visible()
    keep(page, "report-in-mlflow")
    go(page, site.run(site.parent_id, "/artifacts/cells.json"))
    expect(table_rows(page)).to_have_count(1 + CELLS)
    expect(page.get_by_role("row").nth(1).get_by_role("cell")).to_contain_text(["4 lr2 e1000", "[4]", "1000", "2", "5"])
    keep(page, "cells")


# --- the report, from disk --------------------------------------------------------------------------------------


@pytest.fixture
def opened(browser: Browser, site: Site, request: pytest.FixtureRequest) -> Iterator[Page]:
    """The report's page, without any server; the test's parameters are options of the browser."""
    watch = Watch(is_on_disk, [])
    context = watch.over(browser.new_context(**getattr(request, "param", {})))
    shown = context.new_page()
    shown.goto(site.report.as_uri())
    yield shown
    context.close()
    assert watch.wrong == []


@pytest.mark.parametrize(
    "opened", [{"viewport": {"width": width, "height": 900}} for width in (1280, 390)], indirect=True
)
def test_the_report_needs_no_server_and_fits_the_screen(opened: Page) -> None:
    assert opened.title().startswith("Sweep seen")
    expect(opened.get_by_text(VERDICT)).to_be_visible()
    pictures = opened.locator("figure svg")
    assert pictures.count() >= 5
    for picture in pictures.all():
        expect(picture).to_be_visible()
        assert picture.evaluate("svg => svg.querySelectorAll('path').length") > 5
    width = opened.evaluate("innerWidth")
    keep(opened, f"report-{width}", whole=True)
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    tables = opened.locator(".wide")
    assert tables.count() >= 3
    for table in tables.all():  # what does not fit scrolls in a box of its own
        assert table.evaluate("box => box.getBoundingClientRect().right <= innerWidth")


@pytest.mark.parametrize("opened", [{"color_scheme": "dark"}], indirect=True)
def test_the_report_is_dark_on_a_dark_screen(opened: Page) -> None:
    background = "getComputedStyle(document.body).backgroundColor"
    dark = opened.evaluate(background)
    keep(opened, "report-dark", whole=True)
    opened.emulate_media(color_scheme="light")
    assert opened.evaluate(background) == "rgb(255, 255, 255)"
    assert max(map(int, re.findall(r"\d+", dark))) < 64


def test_the_report_prints_on_several_pages(opened: Page) -> None:
    opened.emulate_media(media="print")
    assert opened.evaluate("getComputedStyle(document.querySelector('.wide')).overflowX") == "visible"
    printed = opened.pdf(format="A4")
    assert max(map(int, re.findall(rb"/Type\s*/Pages\s*/Count (\d+)", printed))) > 1
