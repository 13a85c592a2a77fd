"""An RTSP server that is not ours: gst-rtsp-server, run by the system's Python as a command.

    /usr/bin/python3 tests/gst_server.py '{"port": 0, "codec": "h264", "rate": 10,
        "films": {"gate": "gate.mp4"}}'

Prints its port once it listens, on the loopback alone, and plays each film for ever at its pace,
with time stamps that go on. Needs what `make debs` installs, and nothing of ours.
"""

from __future__ import annotations

import json
import sys

import gi

for name in ("Gst", "GstApp", "GstRtsp", "GstRtspServer"):
    gi.require_version(name, "1.0")
from gi.repository import Gio, GLib, Gst, GstApp, GstRtsp, GstRtspServer  # noqa: E402

HOST = "127.0.0.1"
UDP = (20_000, 29_999)  # ports: below those that the kernel gives away
_PARSE = {  # the form that the payloader takes, by codec
    "h264": "h264parse config-interval=-1 ! video/x-h264,stream-format=byte-stream,alignment=au",
    "hevc": "h265parse config-interval=-1 ! video/x-h265,stream-format=byte-stream,alignment=au",
    "mjpeg": "jpegparse",
}
_PAY = {"h264": "rtph264pay", "hevc": "rtph265pay", "mjpeg": "rtpjpegpay"}


class Film(GstRtspServer.RTSPMediaFactory):
    """One film, the same picture for everybody who watches."""

    def __init__(self, path: str, codec: str, rate: int) -> None:
        super().__init__()
        self._samples = samples(path, codec)
        self._step = Gst.SECOND // rate
        self._shown = 0
        self.set_shared(True)
        self.set_launch(f"( appsrc name=film format=time is-live=true ! {_PAY[codec]} name=pay0 )")
        pool = GstRtspServer.RTSPAddressPool()  # without one it sends from any address
        pool.add_range(HOST, HOST, *UDP, 0)
        self.set_address_pool(pool)
        self.connect("media-configure", self._begin)

    def _begin(self, _: GstRtspServer.RTSPMediaFactory, media: GstRtspServer.RTSPMedia) -> None:
        source = media.get_element().get_by_name("film")
        source.set_property("caps", self._samples[0].get_caps())
        self._shown = 0
        source.connect("need-data", self._show)

    def _show(self, source: GstApp.AppSrc, _: int) -> None:
        buffer = self._samples[self._shown % len(self._samples)].get_buffer().copy()
        buffer.pts = buffer.dts = self._shown * self._step
        buffer.duration = self._step
        self._shown += 1
        source.emit("push-buffer", buffer)


def samples(path: str, codec: str) -> list[Gst.Sample]:
    """The film's encoded pictures."""
    pipeline = Gst.parse_launch(
        f"filesrc name=file ! qtdemux ! {_PARSE[codec]} ! appsink name=film sync=false"
    )
    pipeline.get_by_name("file").set_property("location", path)
    film = pipeline.get_by_name("film")
    pipeline.set_state(Gst.State.PLAYING)
    found = list(iter(lambda: film.emit("pull-sample"), None))
    pipeline.set_state(Gst.State.NULL)
    assert found, f"nothing in {path}"
    return found


def locked(server: GstRtspServer.RTSPServer, order: dict) -> GstRtspServer.RTSPPermissions:
    """A server that asks for a login, or for TLS alone; what a film must be given for it."""
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    if "certificate" in order:
        auth.set_tls_certificate(Gio.TlsCertificate.new_from_file(order["certificate"]))
    if "user" not in order:
        auth.set_default_token(token)
    elif order.get("digest"):
        auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
        auth.add_digest(order["user"], order["password"], token)
    else:
        auth.add_basic(GstRtspServer.RTSPAuth.make_basic(order["user"], order["password"]), token)
    server.set_auth(auth)
    permissions = GstRtspServer.RTSPPermissions()
    for what in ("access", "construct"):
        permissions.add_permission_for_role("viewer", f"media.factory.{what}", True)
    return permissions


def main() -> None:
    order = json.loads(sys.argv[1])
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address(HOST)
    server.set_service(str(order["port"]))
    needs_key = "user" in order or "certificate" in order
    permissions = locked(server, order) if needs_key else None
    mounts = server.get_mount_points()
    for name, path in order["films"].items():
        film = Film(path, order["codec"], order["rate"])
        if permissions is not None:
            film.set_permissions(permissions)
        mounts.add_factory(f"/{name}", film)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


if __name__ == "__main__":
    main()
