"""The ingest process: one camera's pictures into its memory file, a ticket beside each.

When infer or publish were started again, the supervisor hands over new memory and a new socket: a
file goes back to its first frame that nobody holds, a live camera goes on where it is.
"""

from __future__ import annotations

import resource

from pipeline.channel import Channel
from pipeline.errors import SourceError
from pipeline.sources import open_source
from workers import control
from workers.link import Link
from workers.reconnect import reconnect
from workers.session import Session
from workers.waiting import receive

# Bytes of its own, without what it shares with infer. Decoding what is let in takes up to 1.8 GB;
# a file of 16 kB whose index promises a billion pictures would have FFmpeg take all there are.
MOST_MEMORY = 3 << 30


def run(channel: Channel) -> None:
    """Serves the one camera that the supervisor hands over, until it says stop."""
    limit_memory()
    receive(channel, control.SetUp)
    channel.send(control.Up())
    link = Link(channel)
    while not link.stopped:
        if link.is_new:
            serve(link)
        else:
            link.hear()


def limit_memory(most: int = MOST_MEMORY) -> None:
    """From there on this process is given no more, and FFmpeg says so of what it reads."""
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if soft == resource.RLIM_INFINITY or most < soft:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))


def serve(link: Link) -> None:
    """Has the camera's frames sent until it ends, or until it is to be begun anew."""
    if link.camera.comes_back:
        link.is_new = False
        reconnect(link)
    else:
        read(link)


def read(link: Link) -> None:
    """Reads the source to its end, or to a stop; whatever happens, the last message says it.

    Comes back without a last message when the file is to be read anew.
    """
    link.is_new = False
    camera, session = link.camera, Session(link)
    session.announce()
    reason, complete, fault = "stopped", False, None
    try:
        with open_source(
            camera.url, live=camera.live, loop=camera.loop, access=camera.access
        ) as source:
            for picture in source:
                link.excuse(source.excuse)
                session.take(picture)
                if link.interrupted:
                    break
            else:
                reason, complete = source.reason, source.complete
                fault = source.fault
    except SourceError as error:
        reason, fault = str(error), error.fault
    if not complete:
        link.hear(0)
    if link.stopped and not complete:  # what broke, broke while it was to end anyway
        reason, fault = "stopped", None
    if link.is_new and not link.stopped:
        return
    if session.undecodable and fault is None:
        reason = f"{reason}; {session.undecodable} pictures could not be converted"
        complete, fault = False, "decoder"
    session.end(reason, complete=complete, fault=fault)
