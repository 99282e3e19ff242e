"""The shapes of events: what the tests record has them, the feed and webhooks show them, and a release only adds to them.

`tests/conftest.py` holds the events of every test against the same shapes.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from baskets.api.serializers.events import EVENTS, REPAIRS, event_name
from baskets.domain.events.payloads import HIDDEN_DATA_KEYS, entry_of, event_payload
from baskets.domain.events.webhook_requests import TEST_TYPE
from baskets.domain.support import attention_repairs
from baskets.models import Event, FeedPosition
from tests.api.conftest import Api, Sells, resolved, schema, schema_validator
from tests.event_shapes import event_problems

# The shapes as partners know them. A change of this file may only add lines: an optional member, a kind, a word.
PROMISED = Path(__file__).with_name("event_shapes.json")


def shape(node: Any, *, required: bool = True) -> Any:
    """The part of a schema that a program depends on."""
    found = resolved(node)
    if found.get("type") == "array":
        return {"required": required, "array": shape(found["items"])}
    if "properties" in found:
        mandatory = set(found.get("required", []))
        members = {name: shape(member, required=name in mandatory) for name, member in found["properties"].items()}
        return {"required": required, "members": dict(sorted(members.items()))}
    facets = {name: found[name] for name in ("type", "format", "enum", "const") if name in found}
    if isinstance(pieces := found.get("additionalProperties"), dict) and pieces:
        facets["values"] = shape(pieces)
    return {"required": required, **facets}


def shapes() -> dict[str, Any]:
    """The shapes of all kinds, by version of the API: all versions have the same."""
    return {"2025-09-15": {kind: shape(schema()["components"]["schemas"][event_name(kind)]) for kind in sorted(EVENTS)}}


def broken_promises(old: Any, new: Any, path: str = "") -> list[str]:
    """What a partner's program could stumble over: everything that differs, additions apart."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [
            problem
            for name, value in old.items()
            for problem in (broken_promises(value, new[name], f"{path}.{name}") if name in new else [f"{path}.{name} is gone"])
        ]
    if isinstance(old, list) and isinstance(new, list) and path.endswith(".enum"):
        return [f"{path} lost {value}" for value in old if value not in new]
    return [] if old == new else [f"{path} was {old}, is {new}"]


def test_every_kind_has_a_shape() -> None:
    assert list(EVENTS) == Event.Kind.values
    assert set(schema()["webhooks"]) == {*Event.Kind.values, TEST_TYPE}


def test_shapes_keep_what_was_promised() -> None:
    promised = json.loads(PROMISED.read_text())
    assert broken_promises(promised, shapes()) == []
    # A new member must be optional: stored events of before lack it.
    assert promised == shapes(), f"shapes were added to: write them into {PROMISED.name}"


@pytest.mark.parametrize(
    ("was", "now"),
    [
        ({"members": {"count": {}}}, {"members": {}}),
        ({"required": True}, {"required": False}),
        ({"type": "integer"}, {"type": "string"}),
        ({".enum": 1, "enum": ["a", "b"]}, {".enum": 1, "enum": ["b"]}),
    ],
)
def test_a_change_that_breaks_programs_is_noticed(was: Any, now: Any) -> None:
    assert broken_promises(was, now)
    assert broken_promises(was, {**was, "more": 1, "enum": [*was.get("enum", []), "new"]}) == []


def test_webhooks_and_feed_share_schemas_and_examples_are_valid() -> None:
    union = schema()["components"]["schemas"]["Event"]
    for kind, webhook in schema()["webhooks"].items():
        media = webhook["post"]["requestBody"]["content"]["application/json"]
        data = media["schema"]["properties"]["data"]
        assert (data in union["oneOf"]) == (kind != TEST_TYPE)
        assert union["discriminator"]["mapping"].get(kind) == data.get("$ref")
        for example in media["examples"].values():
            schema_validator(media["schema"]).validate(example["value"])
        named = {resolved(parameter)["name"] for parameter in webhook["post"]["parameters"]}
        assert named == {"webhook-id", "webhook-timestamp", "webhook-signature"}


def test_the_feed_shows_events_as_published(api: Api, sells: Sells) -> None:
    sells("p1", unsold=5)
    sells("sold-out", unsold=0)
    api.place("p1", 2)
    api.place("sold-out")
    api.start()
    api.finish(ordered=True)
    api.post("/baskets/users/ada/transfer")
    api.delete("/baskets/users/ada")
    # `Api` validates every response, here against the union of all kinds.
    found = api.get("/baskets/events").body["data"]
    assert [event["kind"] for event in found] == [
        "item_placed", "item_placed", "checkout_started", "checkout_ordered", "transfer_offered", "basket_deleted",
    ]  # fmt: skip
    # Webhooks read model objects, the feed reads columns.
    places = FeedPosition.objects.select_related("event__basket", "event__session").order_by("position")
    assert found == [event_payload(entry_of(place), sandbox=False) for place in places]
    for event in found:
        schema_validator(schema()["components"]["schemas"][event_name(event["kind"])]).validate(event)


def test_an_event_with_another_shape_is_noticed() -> None:
    assert event_problems("item_removed", {"productId": "p1"}) == []
    for data in ({}, {"productId": 1}, {"productId": "p1", "undescribed": 1}):
        assert event_problems("item_removed", data)


def test_names_of_repairs_are_those_of_the_domain() -> None:
    folder = Path(attention_repairs.__file__).parent
    code = "".join(path.read_text() for path in folder.glob("*.py"))
    assert [name for name in REPAIRS if f'"{name}"' not in code] == []
    assert dict(HIDDEN_DATA_KEYS) == {"repaired": {"reason"}}
