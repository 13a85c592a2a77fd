"""Waiting for one message of a control socket: what a worker does before it has anything else."""

from __future__ import annotations

import select
from typing import Any

from pipeline.channel import Channel
from pipeline.messages import Message


def receive(channel: Channel, *kinds: type[Message]) -> tuple[Any, list[int]]:
    """The next message and its descriptors; a TypeError if it is of none of these types."""
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    while True:
        poller.poll()
        message, descriptors = channel.receive_with_descriptors()
        if message is None:
            continue
        if not isinstance(message, kinds):
            raise TypeError(f"expected {kinds[0].__name__}, found {type(message).__name__}")
        return message, descriptors
