"""The messages against `tests/golden/`, which nothing generates: what consumers were promised."""

from __future__ import annotations

import copy
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pytest

from pipeline import wire
from pipeline.messages import Ended
from tests.published import ended, frame

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
NAMES = ("vedette.detections-1", "vedette.camera-1")
READ: dict[str, Callable[[bytes], Any]] = {
    "vedette.detections-1": wire.read_detections,
    "vedette.camera-1": wire.read_camera,
}


def golden(name: str, what: str) -> Any:
    return json.loads((GOLDEN / f"{name}.{what}.json").read_text())


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What a consumer of the old schema could trip over in messages of the new one."""
    start = old["$ref"].rpartition("/")[2]
    return list(_object(start, old["$defs"], new["$defs"], new["$ref"].rpartition("/")[2]))


def _object(name: str, old: Any, new: Any, now: str) -> Iterator[str]:
    before, after = old[name], new.get(now)
    if after is None:
        yield f"{name} is gone"
        return
    for field, kind in before["properties"].items():
        if field not in after["properties"]:
            yield f"{name}.{field} is gone"
            continue
        yield from _field(f"{name}.{field}", kind, after["properties"][field], (old, new))
    for field in sorted(set(after["required"]) - set(before["required"])):
        yield f"{name}.{field} is required now"
    for field in sorted(set(before["required"]) - set(after["required"])):
        yield f"{name}.{field} may be left out now"


def _field(name: str, old: Any, new: Any, definitions: Any) -> Iterator[str]:
    old_form, new_form = _form(old), _form(new)
    if "$ref" in old_form and "$ref" in new_form:
        first, second = (form["$ref"].rpartition("/")[2] for form in (old_form, new_form))
        yield from _object(first, *definitions, second)
    elif isinstance(old_form.get("items"), dict) and isinstance(new_form.get("items"), dict):
        yield from _field(f"{name}[]", old_form["items"], new_form["items"], definitions)
    elif old_form != new_form:
        yield f"{name} was {json.dumps(old_form)}, is {json.dumps(new_form)}"


def _form(field: Any) -> Any:
    """A field's schema without its words, and without the wrapper that a description needs."""
    if isinstance(field, list):
        return [_form(part) for part in field]
    if not isinstance(field, dict):
        return field
    bare = {k: _form(v) for k, v in field.items() if k not in ("description", "title", "default")}
    wrapped = bare.get("allOf") or (bare.get("anyOf") if len(bare.get("anyOf", [])) == 1 else None)
    return wrapped[0] if wrapped else bare


def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", NAMES)
def test_no_field_has_changed_its_type_become_required_or_gone(name: str) -> None:
    assert changes(golden(name, "schema"), wire.schemas()[f"{name}.json"]) == []


@pytest.mark.parametrize("name", NAMES)
def test_golden_messages_are_read_and_written_as_they_were(name: str) -> None:
    for message in golden(name, "messages"):
        jsonschema.validate(message, golden(name, "schema"))
        read = READ[name](json.dumps(message).encode())
        written = json.loads(wire.to_json(read))

        assert {key: written[key] for key in message} == message


def test_what_is_published_now_is_what_consumers_were_promised() -> None:
    end = Ended("gate", "1-ab", 1, 9, {"window": 1}, "cut short", False, "camera")
    now = {
        "vedette.detections-1": [frame(0), frame(7, dropped={"crash": 2}, tainted=True)],
        "vedette.camera-1": [ended(3), wire.ended_message(end, since=1.5, last_id="1-9")],
    }

    for name, messages in now.items():
        for message in messages:
            jsonschema.validate(json.loads(wire.to_json(message)), golden(name, "schema"))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m["properties"].pop("seq"), ["DetectionsMessage.seq is gone"]),
        (
            lambda m: m["properties"]["seq"].update(type="string"),
            [
                'DetectionsMessage.seq was {"type": "integer", "minimum": 0}, '
                'is {"type": "string", "minimum": 0}'
            ],
        ),
        (
            lambda m: (
                m["properties"].update(track={"type": "integer"}) or m["required"].append("track")
            ),
            ["DetectionsMessage.track is required now"],
        ),
        (lambda m: m["required"].remove("seq"), ["DetectionsMessage.seq may be left out now"]),
        (lambda m: m["properties"].update(track={"type": "integer"}), []),
        (lambda m: m["properties"]["seq"].update(description="in other words"), []),
    ],
    ids=["gone", "type", "required", "optional", "added", "words"],
)
def test_a_change_of_the_contract_is_noticed(
    change: Callable[[Any], Any], expected: list[str]
) -> None:
    old = golden("vedette.detections-1", "schema")
    new = copy.deepcopy(old)
    change(new["$defs"]["DetectionsMessage"])

    assert changes(old, new) == expected


def test_a_change_inside_a_detection_is_noticed() -> None:
    old = golden("vedette.detections-1", "schema")
    new = copy.deepcopy(old)
    del new["$defs"]["Detection"]["properties"]["label"]
    new["$defs"]["Model"]["properties"]["input"]["minItems"] = 3

    found = changes(old, new)

    assert "Detection.label is gone" in found
    assert any(sentence.startswith("Model.input was") for sentence in found)


def test_the_page_on_messages_is_the_one_of_the_models() -> None:
    assert (ROOT / "docs" / "messages.md").read_text() == generator().markdown()
