"""Writes what is generated from the messages' models: `python docs/generate.py`.

docs/schema/*.json   the JSON Schemas
docs/messages.md     the same for people

A test compares both with the models, and the models with `tests/golden/`, which nothing writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.wire import schemas

DOCS = Path(__file__).parent
GOLDEN = DOCS.parent / "tests" / "golden"

HEAD = """# Messages

*Generated from `pipeline/wire.py` by `docs/generate.py`.*

A camera has these keys (the braces are literal, so that they share a cluster slot; `vedette` is
`redis.prefix`):

| key | type | holds |
|---|---|---|
| `vedette:{gate}:detections` | stream | one entry per processed frame, also when nothing was seen |
| `vedette:{gate}:events` | stream | ends of sessions (not of killed runs), what cameras are like |
| `vedette:{gate}:dead` | stream | entries that a group's consumers could not get done |

An entry has the fields `schema`, `data` (one JSON object, UTF-8) and, for a frame, `traceparent`
(W3C Trace Context). (`camera`, `session`, `seq`) is unique for ever; an entry's id is unique while
its stream is there. How to read them is in [consuming.md](consuming.md).

Frames are `dropped` for these reasons, counted in the next message of the session or in its end:

| reason | why |
|---|---|
| `superseded` | live: it was ready, but so was a newer frame when the camera's turn came |
| `surplus` | live: not even resized, as a newer frame was to come before the turn, and came |
| `max_fps` | the config asks for fewer |
| `undecodable` | the picture could not be converted |
| `window` | Redis was away for too long: the oldest were given up |
| `crash` | they were under way in a worker that died |
| `too_old` | it was older than `max_age_ms` when its turn came |
| `skipped` | live: not decoded, as keyframes came as often as `max_fps` asks |

A later version adds fields, which readers ignore, and reasons of drops. It changes no field, and
`state` and `fault` get no other values. The schemas are in [schema/](schema/), JSON Schema 2020-12.
"""

ORDER = ("vedette.detections-1.json", "vedette.camera-1.json")


def markdown() -> str:
    """The text of docs/messages.md."""
    parts = [HEAD]
    for name in ORDER:
        parts += list(message(name, schemas()[name]))
    return "\n".join(parts)


def message(name: str, schema: dict[str, Any]) -> Iterator[str]:
    """One message: a table of its fields, those of the objects in it, and an example."""
    definitions = schema["$defs"]
    root = schema["$ref"].rpartition("/")[2]
    title = name.removesuffix(".json").replace("-1", "/1")
    yield f"## `{title}`\n\n{about(definitions[root])}\n"
    yield table(definitions[root])
    for kind in (kind for kind in definitions if kind != root):
        yield f"### {kind}\n\n{about(definitions[kind])}\n"
        yield table(definitions[kind])
    first = json.loads((GOLDEN / f"{title.replace('/1', '-1')}.messages.json").read_text())[0]
    yield f"```json\n{json.dumps(first, indent=1, ensure_ascii=False)}\n```\n"


def about(definition: dict[str, Any]) -> str:
    return str(definition["description"])


def table(definition: dict[str, Any]) -> str:
    """The fields of an object; what may be left out is marked with a `?`."""
    rows = ["| field | type | meaning |", "|---|---|---|"]
    for name, field in definition["properties"].items():
        field = present(field)
        mark = "" if name in definition["required"] else "?"
        rows.append(f"| `{name}`{mark} | {kind(field)} | {field.get('description', '')} |")
    return "\n".join(rows) + "\n"


def present(field: dict[str, Any]) -> dict[str, Any]:
    """Without the `null` that stands for a field that is left out, and with what it wraps."""
    for choice in field.get("anyOf", []) + field.get("allOf", []):
        if choice.get("type") != "null":
            return choice | {key: field[key] for key in ("description",) if key in field}
    return field


def kind(field: dict[str, Any]) -> str:
    """The type in a word or two."""
    if "$ref" in field:
        return field["$ref"].rpartition("/")[2]
    if "enum" in field:
        return ", ".join(f'`"{value}"`' for value in field["enum"])
    if "prefixItems" in field:
        return f"array of {len(field['prefixItems'])} {field['prefixItems'][0]['type']}s"
    if field["type"] == "array":
        return f"array of {kind(field['items'])}"
    if field["type"] == "object":
        return f"object of {kind(field['additionalProperties'])}s"
    return str(field["type"])


def main() -> None:
    for name, schema in schemas().items():
        text = json.dumps(schema, indent=2, ensure_ascii=False)
        (DOCS / "schema" / name).write_text(text + "\n")
    (DOCS / "messages.md").write_text(markdown())


if __name__ == "__main__":
    main()
