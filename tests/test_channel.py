from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from pipeline.channel import Channel, pair
from pipeline.errors import ChannelClosed
from pipeline.messages import Ended, Ready, decoder

_kinds = decoder(Ready, Ended)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel]]:
    ours, theirs = (Channel(end, _kinds) for end in pair())
    yield ours, theirs
    ours.close()
    theirs.close()


def test_messages_arrive_whole_and_in_order(ends: tuple[Channel, Channel]) -> None:
    sender, receiver = ends
    for number in range(100):
        assert sender.send(Ready(1, number))

    assert [receiver.receive().sent for _ in range(100)] == list(range(100))  # type: ignore[union-attr]
    assert receiver.receive() is None


def test_a_full_channel_says_so_and_takes_more_once_it_is_read(
    ends: tuple[Channel, Channel],
) -> None:
    sender, receiver = ends
    sent = 0
    while sender.send(Ready(1, sent)):
        sent += 1

    assert sent > 200
    assert receiver.receive() == Ready(1, 0)
    assert sender.send(Ready(1, sent))


def test_a_waiting_sender_still_hears_its_supervisor(ends: tuple[Channel, Channel]) -> None:
    sender, _ = ends
    supervisor, control = (Channel(end, _kinds) for end in pair())
    while sender.send(Ready(1, 1)):
        pass
    threading.Timer(0.1, lambda: supervisor.send(Ready(9, 9))).start()

    assert sender.send_or_wait(Ready(1, 2), control) is False
    assert control.receive() == Ready(9, 9)
    supervisor.close()
    control.close()


def test_what_was_sent_before_a_process_died_arrives_and_then_its_death(
    ends: tuple[Channel, Channel],
) -> None:
    ours, theirs = pair()
    receiver = Channel(ours, _kinds)
    script = (
        "import os, sys, signal;"
        "from pipeline.channel import Channel; from pipeline.messages import Ready;"
        "c = Channel.adopt(int(sys.argv[1]));"
        "[c.send(Ready(1, n)) for n in range(50)];"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    with theirs:
        subprocess.run(
            [sys.executable, "-c", script, str(theirs.fileno())], pass_fds=[theirs.fileno()]
        )

    assert [receiver.receive().sent for _ in range(50)] == list(range(50))  # type: ignore[union-attr]
    with pytest.raises(ChannelClosed):
        receiver.receive()
    with pytest.raises(ChannelClosed):
        receiver.send(Ready(1, 1))
    receiver.close()


def test_unread_is_known_until_the_peer_has_read(ends: tuple[Channel, Channel]) -> None:
    sender, receiver = ends

    assert not sender.has_unread()
    sender.send(Ready(1, 1))
    assert sender.has_unread()
    receiver.receive()
    assert not sender.has_unread()


def test_descriptors_come_along(ends: tuple[Channel, Channel]) -> None:
    sender, receiver = ends
    read_end, write_end = os.pipe()
    sender.send(Ready(1, 1), [write_end])
    os.close(write_end)

    message, descriptors = receiver.receive_with_descriptors()

    assert message == Ready(1, 1)
    os.write(descriptors[0], b"here")
    assert os.read(read_end, 4) == b"here"
    for fd in (read_end, *descriptors):
        os.close(fd)
