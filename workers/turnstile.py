"""How many cameras may be opened at once: they come back together, and each opening costs a lot."""

from __future__ import annotations

from collections import deque

MOST = 8


class Turnstile:
    """Who is inside, and who waits, in turn. By name; who asks twice is one."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._inside: set[str] = set()
        self._waiting: deque[str] = deque()

    def enter(self, name: str) -> bool:
        """Whether it may go in now; otherwise it waits for `leave` to name it."""
        if name in self._inside:
            return True
        if len(self._inside) < self._most:
            self._inside.add(name)
            return True
        if name not in self._waiting:
            self._waiting.append(name)
        return False

    def leave(self, name: str) -> str | None:
        """It is through, or gone: who may go in for it."""
        if name in self._waiting:
            self._waiting.remove(name)
        if name not in self._inside:
            return None
        self._inside.remove(name)
        if not self._waiting:
            return None
        following = self._waiting.popleft()
        self._inside.add(following)
        return following
