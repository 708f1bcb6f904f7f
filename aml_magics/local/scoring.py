"""The process of a deployment: one MLflow model behind ``/score``, as Azure serves it.

Source of the request's forms: "Deploy MLflow models to online endpoints" of Azure's documentation.
"""

from __future__ import annotations

import argparse
import hmac
import json
import logging
import math
import os
import platform
import socket
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from aml_magics.local import files

SECRET_HEADER = "x-aml-scoring-secret"  # noqa: S105 (its name)
SECRET_VARIABLE = "AML_SCORING_SECRET"  # noqa: S105
SPLIT = {"columns", "index", "data"}
JSON_TYPES = {"boolean": "boolean", "integer": "integer", "long": "integer", "string": "string"}

log = logging.getLogger("scoring")


class BadInput(Exception):
    """The request is at fault; the text says how."""


def main() -> None:
    """Load ``--model``, listen, say where in ``--ready-file`` and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m aml_magics.local.scoring")
    parser.add_argument("--model", type=Path, required=True, help="folder of an MLflow model")
    parser.add_argument("--port", type=int, default=0, help="default: any free port")
    parser.add_argument("--ready-file", type=Path, help="gets the port once the model is loaded")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    version = platform.python_version()
    log.info("No environment is built here: the workspace's own Python %s serves", version)
    secret = os.environ.pop(SECRET_VARIABLE, "")
    application = app(load(options.model), secret)
    with socket.create_server(("127.0.0.1", options.port)) as listener:
        port = listener.getsockname()[1]
        if options.ready_file:
            files.write_atomically(options.ready_file, str(port).encode())
        log.info("Serving at http://127.0.0.1:%d", port)
        config = uvicorn.Config(application, log_config=None, timeout_graceful_shutdown=3)
        uvicorn.Server(config).run(sockets=[listener])


def load(folder: Path) -> Any:
    """Load the pyfunc model in a folder."""
    import mlflow.pyfunc

    log.info("Loading the model")
    model = mlflow.pyfunc.load_model(str(folder))
    log.info("Model loaded: %s", ", ".join(model.metadata.flavors))
    return model


def app(model: Any, secret: str = "") -> Starlette:
    """Make the server of a pyfunc model; requests must carry ``secret`` when there is one."""
    one_at_a_time = anyio.CapacityLimiter(1)  # as Azure's default, and models need not be safe

    async def health(request: Request) -> Response:
        return PlainTextResponse("Healthy")

    async def swagger(request: Request) -> Response:
        return JSONResponse(description(model.metadata.get_input_schema()))

    async def score(request: Request) -> Response:
        body = await request.body()
        return await anyio.to_thread.run_sync(answer, model, body, limiter=one_at_a_time)

    routes = [
        Route("/", _only_with(secret, health)),
        Route("/swagger.json", _only_with(secret, swagger)),
        Route("/score", _only_with(secret, score), methods=["POST"]),
    ]
    return Starlette(routes=routes)


def answer(model: Any, body: bytes) -> Response:
    """Score one request: 200, 400 when it cannot be read, 424 when the model fails."""
    from mlflow.exceptions import MlflowException

    started = time.perf_counter()
    try:
        data, params = parse(body, model.metadata.get_input_schema())
        prediction = plain(model.predict(data, params=params))
    except BadInput as exc:
        return _failure(400, "BadRequest", str(exc))
    except MlflowException as exc:
        reason = _reason(exc)
        log.warning("%s", reason)
        return _failure(400 if exc.get_http_status_code() == 400 else 424, exc.error_code, reason)
    except Exception as exc:
        log.exception("The model failed")
        return _failure(424, "ModelError", f"The model failed: {type(exc).__name__}: {exc}")
    elapsed_ms = f"{1000 * (time.perf_counter() - started):.3f}"
    headers = {"x-ms-run-fn-exec-ms": elapsed_ms, "x-ms-run-function-failed": "False"}
    return JSONResponse(prediction, headers=headers)


def parse(body: bytes, schema: Any) -> tuple[Any, dict[str, Any] | None]:
    """Turn a request body into what ``predict`` takes: the data and the parameters.

    Args: schema: MLflow's input schema of the model, or None; values are cast by it.
    Raises: BadInput: it is not in one of the forms of ``input_data``.
    """
    try:
        document = json.loads(body)
    except ValueError as exc:
        raise BadInput(f"The request body is not JSON: {exc}") from exc
    if not isinstance(document, dict) or "input_data" not in document:
        raise BadInput('The request body must be a JSON object with the key "input_data".')
    params = document.get("params")
    if params is not None and not isinstance(params, dict):
        raise BadInput('"params" must be a JSON object.')
    return _data(document["input_data"], schema), params


def _data(given: Any, schema: Any) -> Any:
    from mlflow.utils.proto_json_utils import dataframe_from_parsed_json, parse_tf_serving_input

    if not isinstance(given, dict | list):
        raise BadInput('"input_data" must be a JSON object or list.')
    if isinstance(given, dict) and "data" in given and given.keys() <= SPLIT:
        return dataframe_from_parsed_json(given, "split", schema)
    if isinstance(given, list) and given and all(isinstance(row, dict) for row in given):
        return dataframe_from_parsed_json(given, "records", schema)
    if isinstance(given, list) and schema is not None and not schema.is_tensor_spec():
        rows = {"columns": schema.input_names(), "data": given}
        return dataframe_from_parsed_json(rows, "split", schema)
    return parse_tf_serving_input({"inputs": given}, schema)


def plain(value: Any) -> Any:
    """Turn a prediction into JSON: tables into records, arrays into lists, NaN into null."""
    if hasattr(value, "columns"):
        value = value.to_dict(orient="records")
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | None) else str(value)


def description(schema: Any) -> dict[str, Any]:
    """Describe ``/score`` in OpenAPI; ``schema`` is MLflow's, or None."""
    columns = schema.input_names() if schema is not None and schema.has_input_names() else []
    types = schema.input_types() if columns else []
    properties = {
        name: {"type": JSON_TYPES.get(getattr(kind, "name", ""), "number")}
        for name, kind in zip(columns, types, strict=True)
    }
    row = {"type": "object", "properties": properties}
    request = {"type": "object", "properties": {"input_data": {"type": "array", "items": row}}}
    content = {"application/json": {"schema": {**request, "required": ["input_data"]}}}
    operation = {
        "operationId": "score",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": {"description": "The prediction, as JSON."}},
    }
    return {
        "openapi": "3.0.3",
        "info": {"title": "MLflow model", "version": "1"},
        "paths": {"/score": {"post": operation}},
    }


def _only_with(
    secret: str, handler: Callable[[Request], Awaitable[Response]]
) -> Callable[[Request], Awaitable[Response]]:
    async def checked(request: Request) -> Response:
        given = request.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode(), secret.encode()):
            return _failure(403, "Forbidden", "Score through the endpoint, not at its process.")
        return await handler(request)

    return checked


def _reason(exc: Exception) -> str:
    """MLflow's message without the data that it repeats."""
    message = str(exc).removeprefix("Invalid input. ")
    if message.startswith("Failed to enforce schema of data"):
        message = message.rpartition("Error: ")[2]
    return message.strip()


def _failure(status: int, code: str, message: str) -> Response:
    body = {"error": {"code": code, "message": message}}
    return JSONResponse(body, status, {"x-ms-run-function-failed": "True"})


if __name__ == "__main__":
    main()
