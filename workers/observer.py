"""Whoever is shown a run, besides the person at the terminal: telemetry, or nobody."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from config.kinds import OFF
from config.schema import Config
from pipeline.messages import Stamps
from workers.figures import Figures


class Observer(Protocol):
    """Neither call waits for anybody."""

    def show(self, figures: Figures) -> None:
        """The run as it is now, a few times a second."""

    def record(self, frames: Sequence[Stamps]) -> None:
        """Frames that Redis has."""


class Nobody:
    """Is shown nothing."""

    def show(self, figures: Figures) -> None: ...
    def record(self, frames: Sequence[Stamps]) -> None: ...


@contextlib.contextmanager
def open_observer(
    config: Config, say: Callable[[str], None]
) -> Iterator[tuple[Observer | None, str | None]]:
    """What the config asks for, and the URL of its page.

    Nobody, said once, where the extra is not installed and the config does not name telemetry.
    Raises ModuleNotFoundError where it does, ConfigError where the address cannot be had.
    """
    settings = config.telemetry
    if not settings.is_on:
        yield None, None
        return
    try:
        from workers.telemetry import Telemetry
        from workers.web import Web, listen
    except ModuleNotFoundError:
        if "telemetry" in config.model_fields_set:
            raise
        say("no /metrics: pip install '.[telemetry]' in the clone")
        yield None, None
        return
    with contextlib.ExitStack() as stack:
        listener = None if settings.listen == OFF else stack.enter_context(listen(settings))
        telemetry = Telemetry(config, say)
        stack.callback(telemetry.close)
        page = None
        if listener is not None:
            token = None if settings.token is None else settings.token.get_secret_value()
            web = Web(listener, telemetry, token)
            stack.callback(web.close)
            page = web.url
            say(f"metrics: {page}/metrics")
        yield telemetry, page
