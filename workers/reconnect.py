"""A camera on the network: one session after another, and between them what `Retries` says."""

from __future__ import annotations

import time

from pipeline.errors import SourceError, SourceRefused
from pipeline.sources import open_source
from workers import control
from workers.link import Link
from workers.retries import Retries
from workers.session import Session


def reconnect(link: Link) -> None:
    """A camera on the network, one session after another, until a stop."""
    retries, session = Retries(), None
    while link.ask_to_open():
        loss, session = watch(link, retries, session)
        if loss is not None:
            link.tell(loss)
            until = time.monotonic() + loss.seconds
            while not link.stopped and (left := until - time.monotonic()) > 0:
                link.hear(max(1, round(left * 1000)))
    # Once more where it has ended already: publish says it once, and that nothing comes behind it.
    (session or Session(link)).end("stopped", complete=False, fault=None)


def watch(
    link: Link, retries: Retries, session: Session | None
) -> tuple[control.Lost | None, Session | None]:
    """One connection: how it was lost, or None for a stop; and the last session there was."""
    camera, now, refused = link.camera, None, False
    try:
        with open_source(camera.url, live=True, loop=False, access=camera.access) as source:
            for picture in source:
                link.excuse(source.excuse)
                now = now or _begin(link)
                now.take(picture)
                source.keys_only = now.keys_only
                retries.see(time.monotonic())
                if link.stopped:
                    return None, now
        reason, fault = source.reason, source.fault
    except SourceError as error:
        reason, fault, refused = str(error), error.fault, isinstance(error, SourceRefused)
    if link.stopped:
        return None, now or session
    ended = None
    if now is not None:
        now.send_held()
        if not link.leave_nothing():
            return None, now  # the ordinary end waits for infer by itself
        ended = now.end(reason, complete=False, fault=fault, goes_on=True)
        link.slots.continue_session(0)
    seconds = retries.wait(refused=refused)
    return control.Lost(reason, fault, seconds, refused, ended), now or session


def _begin(link: Link) -> Session:
    session = Session(link)
    session.announce()
    return session
