"""The run's web page: `/metrics`, `/healthz`, `/readyz`, in a thread of the supervisor.

/healthz   200 while the supervisor goes round; 503: restart it
/readyz    200 while every process is there; 503 says which is not
/metrics   Prometheus' text format; asks for the token where there is one
"""

from __future__ import annotations

import hmac
import os
import socket
import threading
from collections.abc import Callable

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from config.kinds import address_of
from config.schema import Telemetry as Settings
from pipeline.errors import ConfigError
from workers.telemetry import Telemetry

_STILL = 10.0  # seconds without new figures: the supervisor hangs
_CLOSE_SECONDS = 2.0
_CONNECTIONS = 256  # at once


class Web:
    """Serves until `close`. Nobody waits for it."""

    def __init__(self, listener: socket.socket, telemetry: Telemetry, token: str | None) -> None:
        host, port = listener.getsockname()[:2]
        self.url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        self._listener = listener
        self._server = uvicorn.Server(
            uvicorn.Config(
                application(telemetry, token),
                log_config=None,
                access_log=False,
                lifespan="off",
                ws="none",
                http="h11",
                loop="asyncio",
                server_header=False,
                limit_concurrency=_CONNECTIONS,
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._serve, name="web", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join(_CLOSE_SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        self._server.run(sockets=[self._listener])


def application(telemetry: Telemetry, token: str | None) -> Starlette:
    """The three pages. `token`: what asks for /metrics must bear."""

    def healthz(request: Request) -> Response:
        age = telemetry.figures.age
        if age > _STILL:
            return PlainTextResponse(f"the supervisor has stood still for {age:.0f} s\n", 503)
        return PlainTextResponse("ok\n")

    def readyz(request: Request) -> Response:
        missing = list(telemetry.figures.missing)
        return JSONResponse({"ready": not missing, "missing": missing}, 503 if missing else 200)

    def metrics(request: Request) -> Response:
        if token is not None and not _bears(request, token):
            headers = {"WWW-Authenticate": "Bearer"}
            return PlainTextResponse("a bearer token is needed\n", 401, headers)
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return Response(telemetry.page(), headers={"Content-Type": kind})

    pages: dict[str, Callable[[Request], Response]] = {
        "/healthz": healthz,
        "/readyz": readyz,
        "/metrics": metrics,
    }
    return Starlette(routes=[Route(path, page) for path, page in pages.items()])


def listen(settings: Settings) -> socket.socket:
    """A socket on the address of the config; where nobody has named that, on another if need be.

    Raises ConfigError where it cannot be had.
    """
    host, port = address_of(settings.listen)
    try:
        return _bound(host, port)
    except OSError as error:
        if "listen" not in settings.model_fields_set:
            return _bound(host, 0)
        why = os.strerror(error.errno or 0)
        raise ConfigError(
            f"telemetry.listen: {settings.listen} cannot be had ({why}):"
            " give another address, or off"
        ) from None


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)


def _bears(request: Request, token: str) -> bool:
    given = request.headers.get("authorization", "")
    return hmac.compare_digest(given.encode(), f"Bearer {token}".encode())
