"""Apps for `mlflow server --app-name`: MLflow's own, with one more route that takes whole runs and writes them in bulk.

`seedbed` is MLflow's usual app, `seedbed-auth` the one with users and passwords. Like every API of MLflow's the route
lies behind its checks of host and origin, and in the second app behind its login. MLflow's assistant is shut in both:
it runs commands on the server for whoever seems to ask from this machine, as everybody does behind a careless proxy.
"""

import os
from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any

from pipeline.endpoint.received import Refused, about, asked_experiment, change, check_length, create, finished
from pipeline.servers.ui import HEADER, NAME
from pipeline.store.parcel import ABOUT, CHANGE, CREATE, FINISHED

ASSISTANT, HEALTH = "/ajax-api/3.0/mlflow/assistant", "/health"

if TYPE_CHECKING:
    from flask import Flask, Response


def create_app() -> Any:
    """MLflow's app with the route."""
    from mlflow.server import app
    from mlflow.server.fastapi_app import app as asgi

    add_route(app)
    return gated(asgi) if is_asgi() else app


def create_auth_app() -> Any:
    """MLflow's app with users and passwords, with the route for those who may write into the experiment."""
    from mlflow.server import app, auth

    add_route(app)
    for path, method, validator in (
        (ABOUT, "GET", lambda: True),
        (CREATE, "POST", may_write),
        (CHANGE, "POST", may_write),
        (FINISHED, "POST", may_read),
    ):
        auth.BEFORE_REQUEST_VALIDATORS[prefixed(path), method] = validator
    made = auth.create_app(app)
    return gated(made) if is_asgi() else made


def is_asgi() -> bool:
    """True where the server is uvicorn, MLflow's usual one."""
    return os.environ.get("_MLFLOW_SGI_NAME") == "uvicorn"


def prefixed(path: str) -> str:
    """A path below the server's `--static-prefix`: MLflow checks hosts and origins there only."""
    from mlflow.server.handlers import _add_static_prefix

    return str(_add_static_prefix(path))


def add_route(app: "Flask") -> None:
    """Adds the route to MLflow's Flask app, unless it serves workspaces, which the bulk sink knows nothing of."""
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES

    if MLFLOW_ENABLE_WORKSPACES.get():  # type: ignore[no-untyped-call]
        return
    app.add_url_rule(prefixed(ABOUT), "seedbed_about", answering(about), methods=["GET"])
    app.add_url_rule(prefixed(CREATE), "seedbed_create", answering(create), methods=["POST"])
    app.add_url_rule(prefixed(CHANGE), "seedbed_change", answering(change), methods=["POST"])
    app.add_url_rule(prefixed(FINISHED), "seedbed_finished", answering(finished), methods=["POST"])


def answering(view: Callable[[], Mapping[str, object]]) -> "Callable[[], Response]":
    """A view for Flask: JSON, or the sentence of why nothing was done."""
    from flask import Response, jsonify

    def answer() -> Response:
        try:
            return jsonify(view())
        except Refused as error:
            return Response(str(error), error.status, mimetype="text/plain")

    return answer


def may_write() -> bool:
    """True if the user may make runs in the experiment that a request names, and change them."""
    from mlflow.server.auth.permissions import RESOURCE_TYPE_RUN
    from mlflow.server.auth.requirements import ACTION_NOT_DENIED, Requirement

    return may("update", Requirement(RESOURCE_TYPE_RUN, "*", ACTION_NOT_DENIED))


def may_read() -> bool:
    """True if the user may read the runs of the experiment that a request names."""
    return may("read")


def may(action: str, *further: Any) -> bool:
    """True if the user may do this with the experiment that a request names and with its runs, as MLflow has it."""
    from mlflow.server import auth
    from mlflow.server.auth.permissions import RESOURCE_TYPE_EXPERIMENT, RESOURCE_TYPE_RUN
    from mlflow.server.auth.requirements import Requirement

    try:
        experiment_id = asked_experiment().experiment_id
    except Refused:
        return False  # not 404: who may not see an experiment does not learn whether it is there
    place = (RESOURCE_TYPE_EXPERIMENT, experiment_id)
    needed = [Requirement(*place, action), *further]
    needed.append(Requirement(RESOURCE_TYPE_RUN, "*", action, fallback_if_no_grant=(place,)))
    login: Any = auth.authenticate_request()  # MLflow has let it in before it asks here
    return auth.authorize(login.username, place, needed)


# --- the gate ---------------------------------------------------------------------------------------------------


def gated(asgi: Any) -> Any:
    """The app behind the gate."""
    asgi.add_middleware(Gate)
    return asgi


class Gate:
    """Lets nothing through to MLflow's assistant, and nothing long to the route: MLflow reads all of a body first.

    Who asks whether the server is well is told its name, if it was given one.
    """

    def __init__(self, app: Callable[..., Any]) -> None:
        self.app = app
        self.name = os.environ.get(NAME, "").encode("latin-1")
        self.paths = {prefixed(CREATE), prefixed(CHANGE), prefixed(FINISHED)}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Answers for the app where a request must not come to it."""
        try:
            if scope["type"] == "http":
                self.check(scope)
        except Refused as error:
            close = [(b"content-type", b"text/plain"), (b"connection", b"close")]
            await send({"type": "http.response.start", "status": error.status, "headers": close})
            await send({"type": "http.response.body", "body": str(error).encode()})
            return
        await self.app(scope, receive, self.naming(send) if scope.get("path") == HEALTH else send)

    def naming(self, send: Callable[..., Any]) -> Callable[..., Any]:
        """`send` for an answer that has the server's name in a header."""

        async def send_named(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start" and self.name:
                message["headers"] = [*message.get("headers", ()), (HEADER.encode(), self.name)]
            await send(message)

        return send_named

    def check(self, scope: Mapping[str, Any]) -> None:
        """Raises Refused for a request that must not come to the app."""
        if ASSISTANT in scope["path"]:
            raise Refused(403, "MLflow's assistant is shut on this server.")
        if scope["path"] in self.paths:
            headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
            check_length(headers.get("content-length"), "transfer-encoding" in headers)
