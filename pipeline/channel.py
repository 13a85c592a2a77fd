"""Message sockets between two processes: whole messages, passed descriptors, one writer each.

`SOCK_SEQPACKET` pairs (unix(7)): a message arrives whole or not at all, so a peer that is killed in
mid-send tears nothing; when the last holder of one end is gone, the other end is told. A pair is
made anew for each generation of a worker, and never repaired.
"""

from __future__ import annotations

import fcntl
import select
import socket
import struct
import termios
from collections.abc import Sequence
from typing import Any

import msgspec

from pipeline.errors import ChannelClosed
from pipeline.messages import Message, encode

MAX_MESSAGE = (
    1 << 17
)  # bytes; a result of 4,000 boxes, the most that a config may ask for, is 88 kB
MAX_DESCRIPTORS = 8
_BUFFER = 1 << 20  # asked for; the kernel grants net.core.wmem_max (208 kB by default) twice over


class Channel:
    """One end of a message socket. Non-blocking: whoever waits, waits on everything at once.

    `decoder` names the messages that may arrive here (`pipeline.messages.decoder`); None for an end
    that only sends.
    """

    def __init__(
        self, end: socket.socket, decoder: msgspec.msgpack.Decoder[Any] | None = None
    ) -> None:
        end.setblocking(False)
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER)
        self._socket = end
        self._decoder = decoder

    @classmethod
    def adopt(cls, fd: int, decoder: msgspec.msgpack.Decoder[Any] | None = None) -> Channel:
        """The channel of a descriptor that this process was given; the channel owns it."""
        return cls(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, fd), decoder)

    def fileno(self) -> int:
        return self._socket.fileno()

    def close(self) -> None:
        self._socket.close()

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> bool:
        """Whether the message has left; False when the peer is behind and the buffer is full.

        Raises ChannelClosed when the peer is gone, ValueError for a message that is too long.
        """
        data = encode(message)
        if len(data) > MAX_MESSAGE:
            raise ValueError(f"a {type(message).__name__} of {len(data)} bytes is too long to send")
        try:
            if descriptors:
                socket.send_fds(self._socket, [data], descriptors)
            else:
                self._socket.send(data)
        except BlockingIOError:
            return False
        except (BrokenPipeError, ConnectionError) as error:
            raise ChannelClosed("the receiving process is gone") from error
        return True

    def send_or_wait(self, message: Message, control: Channel) -> bool:
        """`send`, waiting for room for as long as `control` is quiet.

        False when something arrived on `control` first: handle it, then try again. Credits bound
        what is in flight, so this waits only for a peer that is stopped or stuck.
        """
        while not self.send(message):
            poller = select.poll()
            poller.register(self, select.POLLOUT)
            poller.register(control, select.POLLIN)
            ready = dict(poller.poll())
            if control.fileno() in ready:
                return False
        return True

    def receive(self) -> Any | None:
        """The next message, None when there is none yet; ChannelClosed when there never will be."""
        return self.receive_with_descriptors()[0]

    def receive_with_descriptors(self) -> tuple[Any | None, list[int]]:
        """`receive`, and the descriptors that came along (owned by the caller)."""
        if self._decoder is None:
            raise TypeError("this end of the channel only sends")
        try:
            data, descriptors, flags, _ = socket.recv_fds(
                self._socket, MAX_MESSAGE, MAX_DESCRIPTORS
            )
        except BlockingIOError:
            return None, []
        except ConnectionResetError:
            # It closed without reading what we had sent. The kernel says so before it hands out
            # what the peer itself had sent, and says it once: its last words come next.
            return self.receive_with_descriptors()
        if not data:
            raise ChannelClosed("the sending process is gone")
        try:
            if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
                raise ChannelClosed(f"the sending process sent more than {MAX_MESSAGE} bytes")
            return self._decoder.decode(data), descriptors
        except msgspec.DecodeError as error:
            raise ChannelClosed("the sending process sent what is no message here") from error

    @property
    def is_cut(self) -> bool:
        """Whether the peer is gone."""
        poller = select.poll()
        poller.register(self._socket, 0)
        return bool(poller.poll(0))

    def has_unread(self) -> bool:
        """Whether the peer has yet to read something that was sent (SIOCOUTQ, unix(7)).

        Asking the kernel orders memory too: what was stored before this call is seen by a peer
        whose `receive` emptied the queue after it.
        """
        answer = fcntl.ioctl(self._socket, termios.TIOCOUTQ, b"\0" * 4)
        return bool(struct.unpack("i", answer)[0])


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, inheritable by nobody until they are handed over."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
