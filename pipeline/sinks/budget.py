"""How much memory the windows of all cameras may take, and how long confirmed records are kept."""

from __future__ import annotations

from pipeline.sinks.window import Window

SECONDS = 60.0
BYTES = 64 * 2**20


class Budget:
    """Shared by the windows of one sink.

    Kept records go first, the oldest of all cameras, by age or for room. What waits is bounded per
    live camera, by an equal share, so that no camera's outage sheds another's frames.
    """

    def __init__(self, *, seconds: float = SECONDS, limit: int = BYTES) -> None:
        self._seconds = seconds
        self.limit = limit
        self._windows: list[Window] = []

    def join(self, window: Window) -> None:
        self._windows.append(window)
        self._share()

    def leave(self, window: Window) -> None:
        self._windows.remove(window)
        self._share()

    def settle(self, now: float | None) -> None:
        """Forgets kept records that are too old or too many. `now`: monotonic seconds.

        None leaves age out: while Redis is away nothing that it may have lost grows old.
        """
        if now is not None:
            for window in self._windows:
                while (since := window.kept_since) is not None and since < now - self._seconds:
                    window.forget_oldest()
        excess = sum(window.size for window in self._windows) - self.limit
        while excess > 0:
            holding = [window for window in self._windows if window.kept_since is not None]
            if not holding:
                return
            oldest = min(holding, key=lambda window: window.kept_since or 0.0)
            excess -= oldest.forget_oldest()

    def _share(self) -> None:
        for window in self._windows:
            window.queue.limit_bytes = self.limit // len(self._windows)
