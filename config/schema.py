"""The sections of the file: frozen, every key with its default; unknown keys are refused.

`Config` is what the other rooms get. Its paths are absolute and its URLs are secrets: take them
out with `get_secret_value()` where they are opened, and show none of them.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from config.errors import Place
from config.kinds import (
    EMBEDDED,
    OFF,
    Accepts,
    BatchSize,
    CameraId,
    CollectorUrl,
    Decoder,
    Device,
    Durability,
    FilePath,
    Flag,
    KeyPrefix,
    Labels,
    Listen,
    MostDetections,
    NotAcceptedError,
    OneIn,
    PictureSize,
    Precision,
    Rate,
    RedisUrl,
    Share,
    SourceUrl,
    SpoolFolder,
    StreamLength,
    Token,
    Transport,
    Weight,
    is_loopback,
    is_network,
    is_synthetic,
)

REPEATED_IDS = "repeated_ids"  # the loader says this itself, with both lines


class Section(BaseModel):
    """What all sections have in common."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", hide_input_in_errors=True, validate_default=True
    )


class Model(Section):
    """The network: which weights, what it reports, where it runs."""

    weights: FilePath = Field(description="the safetensors file; relative to the config file")
    input_size: PictureSize | None = Field(
        default=None,
        description="height and width of the network's picture, pixels; from the weights",
    )
    confidence: Share = Field(default=0.25, description="lowest score that is reported, 0 to 1")
    iou: Share = Field(
        default=0.45, description="overlap from which two boxes count as one, 0 to 1"
    )
    max_detections: MostDetections = Field(default=300, description="most boxes in one frame")
    device: Device = Field(default="auto", description="where the network runs")
    precision: Precision = Field(
        default="auto",
        description="number format; auto is the fastest that the device does natively",
    )
    max_batch: BatchSize = Field(default=16, description="most frames in one batch")


class RedisPlace(Section):
    """Where results are."""

    url: RedisUrl = Field(
        default=SecretStr(EMBEDDED),
        description="embedded starts a server with the run and ends it with it",
    )
    prefix: KeyPrefix = Field(default="vedette", description="first part of every key")

    @property
    def is_embedded(self) -> bool:
        """Whether the run starts the server itself."""
        return self.url.get_secret_value() == EMBEDDED


class Redis(RedisPlace):
    """Where results go."""

    maxlen: StreamLength = Field(
        default=10_000, description="entries kept of a live camera's stream, about"
    )

    durability: Durability = Field(
        default="memory",
        description="where a live camera's records wait while Redis is away: memory or disk",
    )
    spool: SpoolFolder | None = Field(
        default=None, description="the folder for that; one in the run's state directory"
    )


class Telemetry(Section):
    """What a run says of itself to machines: a page for Prometheus, and OTLP to a collector."""

    listen: Listen = Field(
        default="127.0.0.1:9464",
        description="address of /metrics, /healthz and /readyz, or off",
    )
    token: Token | None = Field(
        default=None, description="who asks for /metrics must bear it; needed beyond this machine"
    )
    otlp: CollectorUrl | None = Field(
        default=None, description="where an OpenTelemetry collector takes OTLP over HTTP"
    )
    slow_ms: Rate = Field(
        default=500.0, description="frames of a live camera that take longer are all traced"
    )
    trace_one_in: OneIn = Field(default=100, description="of the other frames, one in so many is")

    @property
    def is_on(self) -> bool:
        """Whether there is anybody to tell."""
        return self.listen != OFF or self.otlp is not None

    @field_validator("token")
    @classmethod
    def _refuse_strangers(cls, token: SecretStr | None, info: ValidationInfo) -> SecretStr | None:
        listen = info.data.get("listen")  # absent where it has a mistake of its own
        if token is None and listen is not None and not is_loopback(listen):
            raise ValueError(
                f"found none with telemetry.listen {listen}, must be given where others than this"
                " machine can ask"
            )
        return token


class Camera(Section):
    """One source of frames: a camera on the network, or a file."""

    id: CameraId = Field(description="its name in keys, messages and logs; unique")
    url: SourceUrl = Field(description="a file, a network URL, or a scene")
    transport: Transport = Field(
        default="tcp", description="how an RTSP camera's video comes: tcp, or udp"
    )
    tls_verify: Flag = Field(
        default=True, description="whether the certificate of rtsps and https must be a good one"
    )
    decoder: Decoder = Field(
        default="cpu", description="where its video is decoded; gpu falls back to the CPU"
    )
    live: Flag | None = Field(
        default=None,
        description="fresh and may drop (true), or lossless and may wait (false); by scheme",
    )
    loop: Flag = Field(default=False, description="begin a file again at its end")
    confidence: Share | None = Field(
        default=None, description="instead of model.confidence, 0 to 1"
    )
    classes: Labels | None = Field(default=None, description="labels that are reported; all")
    max_fps: Rate | None = Field(default=None, description="most frames a second; all")
    weight: Weight = Field(
        default=1.0, description="its share of the device, by that of others, where that is short"
    )
    max_age_ms: Rate = Field(
        default=500.0, description="a live camera's frames that are older are not gone on with"
    )
    maxlen: StreamLength | None = Field(
        default=None, description="entries kept of its stream, about; live: redis.maxlen, file: all"
    )

    @property
    def file(self) -> Path | None:
        """The absolute path of the file, None for a camera on the network and for a scene."""
        source = self.url.get_secret_value()
        return None if self.is_network or is_synthetic(source) else Path(source)

    @property
    def is_network(self) -> bool:
        """Whether it is somewhere else, and so can neither wait nor begin again."""
        return is_network(self.url.get_secret_value())

    @property
    def is_live(self) -> bool:
        """`live`, or what follows from the scheme where the file says nothing."""
        return self.is_network if self.live is None else self.live

    @field_validator("transport")
    @classmethod
    def _refuse_udp_elsewhere(cls, transport: str, info: ValidationInfo) -> str:
        url = info.data.get("url")  # absent where it has a mistake of its own
        if transport == "udp" and url is not None:
            scheme = url.get_secret_value().partition(":")[0].lower()
            if scheme != "rtsp":
                raise ValueError("found udp for another URL than rtsp://, must be tcp")
        return transport

    @field_validator("live")
    @classmethod
    def _refuse_waiting_network(cls, live: bool | None, info: ValidationInfo) -> bool | None:
        if live is False and _is_network(info):
            raise ValueError("found false for a network URL, must be true: only a file can wait")
        return live

    @field_validator("loop")
    @classmethod
    def _refuse_looping_network(cls, loop: bool, info: ValidationInfo) -> bool:
        if loop and _is_network(info):
            raise ValueError("found true for a network URL, must be false: only a file has an end")
        return loop


class Config(Section):
    """One pipeline. `name` is the config file's, without its ending; it is no key of the file."""

    name: str = Field(default="vedette", exclude=True)
    model: Model = Field(description="the network")
    redis: Redis = Field(default=Redis(), description="where results go")
    telemetry: Telemetry = Field(default=Telemetry(), description="what it says of itself")
    cameras: tuple[Camera, ...] = Field(description="the sources, one or more")

    @field_validator("cameras")
    @classmethod
    def _refuse_none_and_repeated_ids(cls, cameras: tuple[Camera, ...]) -> tuple[Camera, ...]:
        if not cameras:
            raise NotAcceptedError
        if len({camera.id for camera in cameras}) < len(cameras):
            raise PydanticCustomError(REPEATED_IDS, "two cameras have one id")
        return cameras

    def confidence_of(self, camera: Camera) -> float:
        """The lowest score that is reported for `camera`, 0 to 1."""
        return self.model.confidence if camera.confidence is None else camera.confidence

    def maxlen_of(self, camera: Camera) -> int | None:
        """How many entries of the camera's stream are kept, about; None: all (files)."""
        if camera.maxlen is None and camera.is_live:
            return self.redis.maxlen
        return camera.maxlen


class NamedCamera(Section):
    """A camera for who reads what is published of it."""

    id: CameraId


class Reading(Section):
    """Of a config, what a reader of its streams needs."""

    name: str = "vedette"
    redis: RedisPlace = RedisPlace()
    cameras: tuple[NamedCamera, ...]

    @field_validator("cameras")
    @classmethod
    def _refuse_none(cls, cameras: tuple[NamedCamera, ...]) -> tuple[NamedCamera, ...]:
        if not cameras:
            raise NotAcceptedError
        return cameras


def section_at(place: Place) -> type[Section] | None:
    """The section whose keys stand at `place` in the file."""
    match place:
        case ():
            return Config
        case ("model",):
            return Model
        case ("redis",):
            return Redis
        case ("telemetry",):
            return Telemetry
        case ("cameras", int()):
            return Camera
    return None


def keys_of(section: type[Section]) -> list[str]:
    """The keys that a file may have in this section, in order."""
    return [name for name, field in section.model_fields.items() if not field.exclude]


def accepted_at(place: Place) -> str:
    """What the key at `place`, or the nearest one around it, accepts: words behind "must be"."""
    section = section_at(place)
    if section is not None:
        return f"a mapping of the keys {', '.join(keys_of(section))}"
    if place == ("cameras",):
        return "a list of one or more cameras, each with id and url"
    around = section_at(place[:-1])
    if around is None or place[-1] not in around.model_fields:
        return accepted_at(place[:-1])
    field = around.model_fields[str(place[-1])]
    return next(iter(_words((field.annotation, *field.metadata))))


def _words(marks: tuple[object, ...]) -> list[str]:
    """The `Accepts` among the marks of a type, also inside of `X | None`."""
    found = [mark.words for mark in marks if isinstance(mark, Accepts)]
    for mark in marks:
        if not isinstance(mark, Accepts):
            found += _words((*get_args(mark), *getattr(mark, "__metadata__", ())))
    return found


def _is_network(info: ValidationInfo) -> bool:
    url = info.data.get("url")  # absent where it has a mistake of its own
    return url is not None and is_network(url.get_secret_value())
