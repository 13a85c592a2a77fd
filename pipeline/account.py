"""What was lost between two messages of a camera, by reason, so that the sum is the jump in seq."""

from __future__ import annotations

from pipeline.messages import Counts


class Account:
    """One session's frames up to the last message: how many there were, and what was dropped.

    `session`, `accounted` and `dropped` are what publish has of a session that goes on after a
    process died; whatever arrived since and is in no count was lost in that crash.
    """

    def __init__(self, session: str | None, accounted: int, dropped: Counts) -> None:
        self._session = session
        self._accounted = accounted
        self._dropped = dropped

    def settle(self, session: str, frames: int, dropped: Counts, left_out: Counts) -> Counts:
        """The losses before a message behind `frames` that arrived in `session`.

        `dropped` are ingest's, since the session began; `left_out` are infer's, since the last
        call.
        """
        if session != self._session:
            self._session, self._accounted, self._dropped = session, 0, {}
        fresh = {
            reason: count - self._dropped.get(reason, 0)
            for reason, count in dropped.items()
            if count > self._dropped.get(reason, 0)
        }
        missing = frames - self._accounted
        self._accounted, self._dropped = frames + 1, dropped
        if sum(fresh.values()) > missing:  # what publish had counted is not known: all one
            return {"crash": missing} if missing > 0 else {}
        missing -= sum(fresh.values())
        for reason, count in (*left_out.items(), ("crash", missing)):
            if lost := min(count, missing):
                fresh[reason] = fresh.get(reason, 0) + lost
                missing -= lost
        return fresh
