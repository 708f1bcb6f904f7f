"""The process of a deployment: one MLflow model behind ``/score``, as Azure serves it.

It may be run by the Python of the model's environment, which has MLflow and uvicorn: this module
and `predictor` need nothing else, and nothing of the rest of the package.

Source of the request's forms: "Deploy MLflow models to online endpoints" of Azure's documentation.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import gc
import json
import logging
import math
import platform
import re
import socket
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from aml_magics.local import predictor

try:
    import orjson
except ImportError:  # in an environment of the model's own
    orjson = None  # type: ignore[assignment]

SPLIT = {"columns", "index", "data"}
JSON_TYPES = {"boolean": "boolean", "integer": "integer", "long": "integer", "string": "string"}
KEEP_ALIVE = 75  # seconds: longer than the router keeps an unused connection
# Bytes of a request that comes in several parts: while one is predicted, others wait to be read.
LARGE = 16_384
_encode = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode
# What JSON can hold; as a Union because older Pythons cannot ask for `int | str`.
_PLAIN = (str, int, float, type(None))
_AS_ZEROS, _LONG = bytes.maketrans(b"123456789", b"000000000"), b"0" * 19
_PINNED = re.compile(r"([A-Za-z0-9._-]+)(?:\[.*?\])?==([^\s;]+)")

Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Any, Receive, Send], Awaitable[None]]

log = logging.getLogger("scoring")


class BadInput(Exception):
    """The request is at fault; the text says how."""


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


def main() -> None:
    """Load ``--model``, listen and serve until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m aml_magics.local.scoring")
    parser.add_argument("--model", type=Path, required=True, help="folder of an MLflow model")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--port", type=int, help="listen on the loopback")
    where.add_argument("--socket", type=Path, help="listen on a socket of this path")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    tell_versions(options.model)
    application = app(load(options.model))
    gc.collect()
    gc.freeze()  # what stays for good: to look through it again would hold requests up
    with _listener(options.port, options.socket) as listener:
        import uvicorn

        log.info("Serving at %s", listener.getsockname())
        config = uvicorn.Config(
            application,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=3,
        )
        uvicorn.Server(config).run(sockets=[listener])


def _listener(port: int | None, path: Path | None) -> socket.socket:
    if path is None:
        return socket.create_server(("127.0.0.1", port or 0))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen(2048)
    return listener


def load(folder: Path) -> Any:
    """Load the pyfunc model in a folder."""
    import mlflow.pyfunc

    log.info("Loading the model")
    model = mlflow.pyfunc.load_model(str(folder))
    log.info("Model loaded: %s", ", ".join(model.metadata.flavors))
    return model


def tell_versions(folder: Path) -> None:
    """Log which Python serves, and which packages differ from the model's requirements."""
    log.info("Python %s serves the model", platform.python_version())
    if differing := differences(folder / "requirements.txt"):
        log.warning("Other package versions than the model asks for: %s", "; ".join(differing))


def differences(requirements: Path) -> list[str]:
    """Pinned requirements that this Python meets with another version, or not at all."""
    if not requirements.is_file():
        return []
    found = []
    for line in requirements.read_text("utf-8").splitlines():
        match = _PINNED.match(line.strip())
        if match and (own := _version(match[1])) != match[2]:
            found.append(f"{match[1]} {own or 'is missing'} (asked for: {match[2]})")
    return found


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def app(model: Any) -> Application:
    """Make the server of a pyfunc model.

    It predicts one request at a time, in the loop itself: models need not be safe for threads,
    and a trip to another thread takes longer than many a prediction.
    """
    fast = predictor.compiled(model)
    log.info("Requests take %s", "the short way" if fast else "MLflow's own way")
    turn = asyncio.Lock()

    async def scored(receive: Receive) -> Answer:
        body = await _read(receive)
        if len(body) < LARGE:
            return answer(model, body, fast)
        async with turn:
            await asyncio.sleep(0)  # reads what has come of the others meanwhile
            return answer(model, body, fast)

    async def application(scope: Any, receive: Receive, send: Send) -> None:
        done = await _routed(model, scored, scope, receive)
        fields = {"content-length": str(len(done.body)), **done.headers}
        headers = [(key.encode(), value.encode("latin-1")) for key, value in fields.items()]
        await send({"type": "http.response.start", "status": done.status, "headers": headers})
        await send({"type": "http.response.body", "body": done.body})

    return application


async def _routed(
    model: Any, scored: Callable[[Receive], Awaitable[Answer]], scope: Any, receive: Receive
) -> Answer:
    method, path = scope["method"], scope["path"]
    if path == "/score":
        if method == "POST":
            return await scored(receive)
        return _failure(405, "MethodNotAllowed", "Score with POST.")
    if path == "/" and method in ("GET", "HEAD"):
        return Answer(200, b"Healthy", {"content-type": "text/plain"})
    if path == "/swagger.json" and method == "GET":
        return _json(200, description(model.metadata.get_input_schema()), {})
    return _failure(404, "NotFound", f"There is nothing at {path}.")


async def _read(receive: Receive) -> bytes:
    message = await receive()
    body = message.get("body", b"")
    if not message.get("more_body"):
        return bytes(body)
    pieces = [body]
    while message.get("more_body"):
        message = await receive()
        pieces.append(message.get("body", b""))
    return b"".join(pieces)


def answer(model: Any, body: bytes, fast: predictor.Fast | None = None) -> Answer:
    """Score one request: 200, 400 when it cannot be read, 500 when the model fails.

    Behind the router of an endpoint the latter two are 424.

    Args: fast: predicts what it is sure to predict as ``model`` does.
    """
    from mlflow.exceptions import MlflowException

    started = time.perf_counter()
    try:
        prediction = predicted(model, body, fast)
    except BadInput as exc:
        return _failure(400, "BadRequest", str(exc))
    except MlflowException as exc:
        reason = _reason(exc)
        log.warning("%s", reason)
        return _failure(400 if exc.get_http_status_code() == 400 else 500, exc.error_code, reason)
    except Exception as exc:
        log.exception("The model failed")
        return _failure(500, "ModelError", f"The model failed: {type(exc).__name__}: {exc}")
    elapsed_ms = f"{1000 * (time.perf_counter() - started):.3f}"
    headers = {"x-ms-run-fn-exec-ms": elapsed_ms, "x-ms-run-function-failed": "False"}
    return _json(200, prediction, headers)


def predicted(model: Any, body: bytes, fast: predictor.Fast | None) -> Any:
    """What the model predicts for a request body, as JSON can hold it but for NaN.

    Raises: BadInput; what the model raises.
    """
    document = read(body)
    if fast:
        found = fast(document)
        if found is not None:
            return found.tolist()
    data, params = parse(document, model.metadata.get_input_schema())
    return plain(model.predict(data, params=params))


def read(body: bytes) -> dict[str, Any]:
    """A request body as JSON.

    Raises: BadInput.
    """
    try:
        document = _loads(body)
    except (ValueError, RecursionError) as exc:
        raise BadInput(f"The request body is not JSON: {exc}") from exc
    if not isinstance(document, dict) or "input_data" not in document:
        raise BadInput('The request body must be a JSON object with the key "input_data".')
    params = document.get("params")
    if params is not None and not isinstance(params, dict):
        raise BadInput('"params" must be a JSON object.')
    return document


def _loads(body: bytes) -> Any:
    """JSON as the standard library reads it, by orjson where that reads the same."""
    if orjson and not _is_long(body):
        with suppress(orjson.JSONDecodeError):
            return orjson.loads(body)
    return json.loads(body)


def _is_long(body: bytes) -> bool:
    """Whether there may be an integer of more than 64 bits, of which orjson makes a float."""
    *before, _ = body.translate(_AS_ZEROS).split(_LONG)
    return not all(one.endswith(b".") for one in before)  # those are digits of fractions


def parse(document: dict[str, Any], schema: Any) -> tuple[Any, dict[str, Any] | None]:
    """Turn a request into what ``predict`` takes: the data and the parameters.

    Args: schema: MLflow's input schema of the model, or None; values are cast by it.
    Raises: BadInput: it is not in one of the forms of ``input_data``.
    """
    return _data(document["input_data"], schema), document.get("params")


def _data(given: Any, schema: Any) -> Any:
    from mlflow.utils.proto_json_utils import dataframe_from_parsed_json, parse_tf_serving_input

    if not isinstance(given, (dict, list)):
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
    """Turn a prediction into JSON as MLflow does, but NaN into null.

    Tables and series become records, arrays lists, bytes base64, times ISO 8601.
    """
    if hasattr(value, "columns"):
        value = value.to_dict(orient="records")
    elif hasattr(value, "to_frame"):
        value = value.to_frame().to_dict(orient="records")
    elif hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (bytes, bytearray)):
        return base64.encodebytes(value).decode("ascii")
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return value if isinstance(value, _PLAIN) else str(value)


def description(schema: Any) -> dict[str, Any]:
    """Describe ``/score`` in OpenAPI; ``schema`` is MLflow's, or None."""
    columns = schema.input_names() if schema is not None and schema.has_input_names() else []
    types = schema.input_types() if columns else []
    properties = {
        name: {"type": JSON_TYPES.get(getattr(kind, "name", ""), "number")}
        for name, kind in zip(columns, types)  # noqa: B905 (Python 3.9 has no strict)
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


def _reason(exc: Exception) -> str:
    """MLflow's message without the data that it repeats."""
    message = str(exc).removeprefix("Invalid input. ")
    if message.startswith("Failed to enforce schema of data"):
        message = message.rpartition("Error: ")[2]
    return message.strip()


def _failure(status: int, code: str, message: str) -> Answer:
    body = {"error": {"code": code, "message": message}}
    return _json(status, body, {"x-ms-run-function-failed": "True"})


def _json(status: int, value: Any, headers: dict[str, str]) -> Answer:
    try:
        text = _encode(value)
    except ValueError:  # a number in it is none
        text = _encode(plain(value))
    body = text.encode("utf-8", "replace")
    return Answer(status, body, {"content-type": "application/json", **headers})


if __name__ == "__main__":
    main()
