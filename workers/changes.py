"""What of a run another config would change: decided from digests alone, so that no secret lies
about in the run's folder, and `vedette check --against` can say it beforehand."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec
from pydantic import SecretStr

from config.schema import Camera
from pipeline.errors import ConfigError
from workers.preflight import Plan

Digests = dict[str, str]  # of what stands at each key


class Fingerprint(msgspec.Struct, frozen=True):
    """A plan, every value of it as a digest; what comes to the same is the same."""

    fixed: Digests  # what cannot change while it runs
    cameras: dict[str, Digests]


@dataclass(frozen=True, slots=True)
class Changes:
    """Which cameras come and go; all others notice nothing."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    restarted: Mapping[str, tuple[str, ...]]  # and the keys that differ

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.restarted)

    def __str__(self) -> str:
        lines = [f"camera {name}: is added" for name in self.added]
        lines += [f"camera {name}: is removed" for name in self.removed]
        lines += [
            f"camera {name}: begins anew, with another {', '.join(keys)}"
            for name, keys in self.restarted.items()
        ]
        return "\n".join(lines) or "nothing differs"


def fingerprint(plan: Plan) -> Fingerprint:
    config = plan.config
    model: dict[str, Any] = config.model.model_dump(exclude={"confidence"})  # the cameras have it
    model |= {"weights": plan.weights.digest, "input_size": plan.input_size}
    redis = config.redis.model_dump(exclude={"maxlen"})
    sections = {"model": model, "redis": redis, "telemetry": config.telemetry.model_dump()}
    return Fingerprint(
        fixed={
            f"{name}.{key}": _digest(value)
            for name, section in sections.items()
            for key, value in section.items()
        },
        cameras={camera.id: _of_camera(plan, camera) for camera in config.cameras},
    )


def changes(before: Fingerprint, after: Fingerprint) -> Changes:
    """Raises ConfigError where something differs that cannot change while it runs."""
    if fixed := _differing(before.fixed, after.fixed):
        raise ConfigError(
            f"{', '.join(fixed)}: cannot change while it runs; start it anew for that"
        )
    both = [name for name in after.cameras if name in before.cameras]
    differing = {name: _differing(before.cameras[name], after.cameras[name]) for name in both}
    return Changes(
        added=tuple(name for name in after.cameras if name not in before.cameras),
        removed=tuple(name for name in before.cameras if name not in after.cameras),
        restarted={name: keys for name, keys in differing.items() if keys},
    )


def _of_camera(plan: Plan, camera: Camera) -> Digests:
    values: dict[str, Any] = camera.model_dump(exclude={"id"})
    values |= {
        "live": camera.is_live,
        "confidence": plan.config.confidence_of(camera),
        "maxlen": plan.config.maxlen_of(camera),
    }
    return {key: _digest(value) for key, value in values.items()}


def _differing(before: Digests, after: Digests) -> tuple[str, ...]:
    return tuple(key for key in {**before, **after} if before.get(key) != after.get(key))


def _digest(value: Any) -> str:
    plain = value.get_secret_value() if isinstance(value, SecretStr) else value
    return hashlib.sha256(json.dumps(plain, default=str).encode()).hexdigest()[:16]
