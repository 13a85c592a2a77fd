"""A loopback proxy in front of a Redis, whose faults are switched on and off while bytes flow."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from random import Random
from typing import Self

_CHUNK = 2**16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, 0 s, so that closing sends RST
_LOOK = 0.02  # seconds between looks at what has been switched


class FaultProxy:
    """Forwards to the server at `target`, a Unix socket's path, except for what is switched on.

    held      nothing passes, either way; what was sent meanwhile arrives late
    deaf      nothing passes and nothing is kept: connections of that time stay silent for ever
    lose      so many answers to EXEC never arrive; the server has done what it was asked
    resets    so many batches are cut at a random byte, both ends get a RST
    delay     seconds, each way; `rate`: bytes per second, each way; 0: as fast as it goes
    """

    def __init__(self, target: str, random: Random | None = None) -> None:
        self.target = target
        self.held = self.deaf = False
        self.lose = self.resets = 0
        self.delay = self.rate = 0.0
        self.connections = self.executed = 0  # the latter: EXECs whose answers are let through
        self.random = random or Random(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._stop: asyncio.Event
        self._loop: asyncio.AbstractEventLoop
        self._up = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))
        self._thread.start()
        self._up.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connect, sock=self._listener, limit=_CHUNK)
        self._up.set()
        await self._stop.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        client = (reader, writer)
        with suppress(OSError, asyncio.CancelledError):  # nobody listens behind us: closed, too
            try:
                server = await asyncio.open_unix_connection(self.target, limit=_CHUNK)
                await _Connection(self, client, server).pump()
            finally:
                writer.close()
                with suppress(OSError):
                    await writer.wait_closed()


_End = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class _Connection:
    def __init__(self, proxy: FaultProxy, client: _End, server: _End) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._losing = False
        self._silent = False

    async def pump(self) -> None:
        """Until one side has ended."""
        there = self._forward(self._client[0], self._server[1], asks=True)
        back = self._forward(self._server[0], self._client[1], asks=False)
        tasks = [asyncio.create_task(one) for one in (there, back)]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._server[1].close()

    async def _forward(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, asks: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(_CHUNK):
                while self._proxy.held:
                    await asyncio.sleep(_LOOK)
                await self._travel(len(data))
                if self._is_silent():
                    continue
                if not (self._ask(data) if asks else self._answer()):
                    return
                writer.write(data)
                await writer.drain()

    async def _travel(self, size: int) -> None:
        proxy = self._proxy
        if proxy.delay or proxy.rate:
            await asyncio.sleep(proxy.delay + (size / proxy.rate if proxy.rate else 0))

    def _is_silent(self) -> bool:
        self._silent = self._silent or self._proxy.deaf
        return self._silent

    def _ask(self, data: bytes) -> bool:
        """Whether this may go to the server whole."""
        if b"EXEC\r\n" not in data:
            return True
        if self._proxy.resets > 0:
            self._proxy.resets -= 1
            self._server[1].write(data[: self._proxy.random.randrange(len(data) + 1)])
            self._reset()
            return False
        self._losing = self._losing or self._proxy.lose > 0
        self._proxy.executed += not self._losing
        return True

    def _answer(self) -> bool:
        """Whether this may go to the client."""
        if self._losing:
            self._proxy.lose -= 1
        return not self._losing

    def _reset(self) -> None:
        """To the client only: a RST may overtake what the server has not read yet."""
        end = self._client[1].get_extra_info("socket")
        end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
