"""Views of MLflow's UI, ready-made: which runs, columns and charts a person sees who follows a link.

A View is an experiment tag that the UI writes with its "Save as new view": `mlflow.sharedViewState.<id>`, its value
{"name", "createdAt", "updatedAt", "state": "deflate;" + base64(zlib(json(state)))}. That form is private to MLflow:
this is the only place that knows it, for the version named below, in which a browser test looks at them.
"""

import base64
import importlib.metadata
import json
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

MLFLOW = "3.17."  # the versions whose UI reads this form
TAG = "mlflow.sharedViewState."
LONGEST_TAG = 20_000  # characters that the UI reads of it
SECTION = "seedbed"
CARD_HEIGHT = 440  # pixels of a chart, two beside each other: the UI's own three are too narrow for axes with names
CURVES, TABLE = "CHART", "TABLE"  # the UI's two modes, which only a link can choose
MOST_KEYS = 6  # columns and axes for swept keys, that a screen has room for
LOSS, RESULT = "curve/loss", "result/log10_best_loss"
BEST_FIRST, BY_SEED = "metrics.`result/final_loss`", "params.`seed`"
MOST_DRAWN = 100  # runs that the UI loads, which are all it draws and groups


@dataclass(frozen=True)
class View:
    """A saved View: its id in links and tags, its name in the UI's menu, its mode, and the state that the UI reads."""

    view_id: str
    name: str
    mode: str
    state: dict[str, Any]


def is_known() -> bool:
    """True if the UI of the installed MLflow reads this form."""
    return importlib.metadata.version("mlflow").startswith(MLFLOW)


def views_of(sweep: str | None, keys: Sequence[str], epochs: int) -> list[View]:
    """The Views of a sweep, or of all trained runs of its experiment; `keys` are the swept ones, shown as columns.

    Curves are those of the runs with the most `epochs`: shorter ones are their beginnings, and the UI draws the average
    of unequal ones as a saw. Where runs stand for all of them they are in order of their seeds: the UI draws the first
    MOST_DRAWN it finds, and of the best ones only it would show groups that are better than they are.
    """
    runs = "tags.fingerprint LIKE '%'" if sweep is None or {"'", '"'} <= set(sweep) else f"tags.sweep = {quoted(sweep)}"
    shown = [key for key in keys if key != "seed"][:MOST_KEYS]
    columns = [f"params.`{key}`" for key in (*shown, "seed")]
    columns += [f"metrics.`{key}`" for key in ("result/final_loss", "result/best_loss", RESULT, "result/updates")]
    columns += ["tags.`cell`", "tags.`diverged_at`"]
    curves = [line(0, log_x=False), line(1, log_x=True)]
    results = [bar("result/best_loss"), bar(RESULT)]
    axes = parallel([*shown, "seed"], ["result/log10_best_loss"])

    by_width = ("param", "network.hidden")
    longest = f"{runs} AND params.`training.epochs` = '{epochs}'"

    def view(view_id: str, name: str, mode: str, *given: Any, **more: Any) -> View:
        return View(f"seedbed-{view_id}", name, mode, state(columns, *given, **more))

    return [
        view("runs", "All runs: settings and results", TABLE, runs, curves),
        view("curves", "Loss curves by architecture", CURVES, longest, curves, group=by_width, order=BY_SEED),
        view("cells", "Loss curves by cell", CURVES, longest, curves, group=("tag", "cell"), order=BY_SEED),
        view("best", "Ten best runs", CURVES, runs, [*curves, *results], hidden="FIRST_10_RUNS"),
        view("axes", "Parallel coordinates", CURVES, runs, [axes], order=BY_SEED),
    ]


def tags_of(views: Sequence[View], now: int) -> dict[str, str]:
    """The experiment tags that make the UI show Views; `now` is ms since 1970. One too long for the UI is left out."""
    tags = {TAG + view.view_id: written(view, now) for view in views}
    return {key: value for key, value in tags.items() if len(value) <= LONGEST_TAG}


def written(view: View, now: int) -> str:
    """A View as the UI writes it."""
    packed = base64.b64encode(zlib.compress(json.dumps(view.state, separators=(",", ":")).encode())).decode()
    content = {"name": view.name, "createdAt": now, "updatedAt": now, "state": f"deflate;{packed}"}
    return json.dumps(content, separators=(",", ":"))


def quoted(text: str) -> str:
    """A text in a filter of MLflow's, which has no way to write a quote inside quotes of its kind."""
    return f'"{text}"' if "'" in text else f"'{text}'"


def link(experiment_id: str, view: View) -> str:
    """Where a View is, behind the address of a server."""
    words = f"workflowType=machine_learning&compareRunsMode={view.mode}&viewStateShareKey={quote(view.view_id)}"
    return f"#/experiments/{quote(experiment_id)}/runs?{words}"


def state(
    columns: Sequence[str],
    runs: str,
    charts: Sequence[dict[str, Any]],
    *,
    group: tuple[str, str] | None = None,
    hidden: str = "SHOWALL",
    order: str = BEST_FIRST,
) -> dict[str, Any]:
    """What the UI keeps of a page: the filter `runs`, their order, and what is drawn of which of them."""
    grouped = (
        {"aggregateFunction": "average", "groupByKeys": [{"mode": group[0], "groupByData": group[1]}]}
        if group
        else None
    )
    return {
        "searchFilter": runs,
        "orderByKey": order,
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": list(columns),
        "columnOrder": [],
        "columnWidths": {},
        "runsHiddenMode": hidden,
        "compareRunCharts": list(charts),
        "compareRunSections": [
            {
                "uuid": SECTION,
                "name": "Learning",
                "display": True,
                "isReordered": True,
                "deleted": False,
                "isGenerated": False,
                "columns": min(len(charts), 2),
                "cardHeight": CARD_HEIGHT,
            }
        ],
        "viewMaximized": False,
        "runListHidden": False,
        "isAccordionReordered": True,
        "useGroupedValuesInCharts": True,
        "hideEmptyCharts": True,
        "groupBy": grouped,
        "groupsExpanded": {},
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def chart(kind: str, uuid: str, **more: Any) -> dict[str, Any]:
    """What every chart has."""
    same = {"runsCountToCompare": 10, "metricSectionId": SECTION, "deleted": False, "isGenerated": False}
    return {"uuid": uuid, "type": kind, **same, **more}


def line(place: int, log_x: bool) -> dict[str, Any]:
    """Loss curves over updates; the loss on a log axis."""
    return chart(
        "LINE",
        f"line{place}",
        displayName=f"{LOSS}, log-log" if log_x else LOSS,
        metricKey=LOSS,
        selectedMetricKeys=[LOSS],
        lineSmoothness=0,
        xAxisScaleType="log" if log_x else "linear",
        scaleType="log",
        range={},
        xAxisKey="step",
        selectedXAxisMetricKey="",
        yAxisKey="metric",
        yAxisExpressions=[],
        ignoreOutliers=False,
        useGlobalXaxisKey=True,
        useGlobalLineSmoothing=True,
    )


def bar(metric: str) -> dict[str, Any]:
    """A bar a run."""
    return chart("BAR", f"bar-{metric}", displayName=metric, metricKey=metric)


def parallel(params: Sequence[str], metrics: Sequence[str]) -> dict[str, Any]:
    """A line a run through its params and results."""
    return chart("PARALLEL", "parallel", selectedParams=list(params), selectedMetrics=list(metrics), showAllRuns=True)
