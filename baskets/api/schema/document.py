"""The OpenAPI document: completes what drf-spectacular generates, and keeps the result as bytes, plain and compressed.

# Note [References instead of copies]
# Operations refer to shared parameters, headers, refusals, examples and schemas. Inline copies made four fifths of the document,
# and code generators wrote a type for each. `default` is left out: generators make a member with a default compulsory. The
# descriptions say what an absent value means.
"""

import functools
import gzip
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from drf_spectacular.generators import SchemaGenerator

from baskets.api.protocol.envelope import encode_json
from baskets.api.protocol.identifiers import PUBLIC_NAMES
from baskets.api.protocol.versioning import SUPPORTED_VERSIONS
from baskets.api.schema.components import COMMON_HEADERS, HEADERS, OPERATION_KEY, PARAMETERS, Operation
from baskets.api.schema.refusals import (
    ERROR_HEADERS,
    SHARED_RESPONSES,
    error_example,
    error_response,
    error_schemas,
    example_name,
    reference,
)
from baskets.api.schema.webhooks import describe_webhooks, webhook_components
from baskets.api.serializers.events import REPAIRS
from baskets.domain.actors import ActorKind
from baskets.models import Attention, CheckoutSession, Event

# The values that several schemas share, by the name of their component.
ENUMS = {
    "SessionStatus": (CheckoutSession.Status.values, "The state of a checkout. ORDERED is final; ABORTED and EXPIRED may become ORDERED."),
    "AttentionReason": (Attention.Reason.values, "Why staff should review a checkout."),
    "EventKind": (Event.Kind.values, "The kind of an event. Kinds may be added: ignore unknown ones."),
    "ActorKind": ([kind.value for kind in ActorKind], "The kind of author."),
    "ApiVersion": (sorted(SUPPORTED_VERSIONS), "A version of the API."),
    "Flag": (["true", "false"], "Yes or no, in a query."),
    "Repair": (list(REPAIRS), "The name of a repair. Names may be added."),
}
INT32 = 2**31 - 1
METHODS = ("get", "post", "put", "patch", "delete")
HEAD_DESCRIPTION = "The status and the headers of the same call with GET, without a body."


@dataclass(frozen=True, kw_only=True)
class Document:
    """The OpenAPI document as it is served.

    :param compressed: the same with gzip.
    :param etag: a weak validator of both, with its quotes.
    """

    raw: bytes
    compressed: bytes
    etag: str


_lock = threading.Lock()


def openapi_document() -> Document:
    """Return the OpenAPI document. A process generates it once, in one thread: the generator is not safe for several."""
    with _lock:
        return _openapi_document()


@functools.cache
def _openapi_document() -> Document:
    raw = encode_json(generate_schema()).encode()
    etag = f'W/"{hashlib.sha256(raw).hexdigest()[:32]}"'
    return Document(raw=raw, compressed=gzip.compress(raw, mtime=0), etag=etag)


def generate_schema() -> dict[str, Any]:
    """Generate the OpenAPI 3.1 document. Tests validate it: that takes two seconds, too long for the start of a process."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    # Descriptions may be lazy translations, which only the encoder of Django knows.
    document: dict[str, Any] = json.loads(json.dumps(generator.get_schema(request=None, public=True), default=str))  # type: ignore[no-untyped-call]
    return document


# --- Hooks of drf-spectacular -----------------------------------------------------


def exclude_v2_paths(endpoints: list[tuple[str, str, str, Any]]) -> list[tuple[str, str, str, Any]]:
    """Keep one path of each call: those under `/v2` are the same calls, and the schema names `/v2` as a server.

    :param endpoints: path, pattern, method and view, as drf-spectacular lists them.
    """
    return [endpoint for endpoint in endpoints if not endpoint[0].startswith("/v2/")]


def finish_schema(result: Any, **_: Any) -> Any:
    """Complete the operations, and replace copies by references. See Note [References instead of copies]."""
    described: dict[str, Operation] = {}
    paths = {}
    for path, found in result["paths"].items():
        # The generator iterates over sets: each process would have another order, and another ETag.
        operations = {method: found[method] for method in METHODS if method in found}
        for operation in operations.values():
            described[operation["operationId"]] = _complete(operation)
        if "get" in operations:
            operations["head"] = _head_operation(operations["get"])
        paths[_public_path(path)] = operations
    reasons = {
        (reason, status, code)
        for operation in described.values()
        for status, codes in operation.reasons.items()
        for reason, code in codes.items()
    }
    webhooks = webhook_components()
    schemas = result["components"]["schemas"] | error_schemas({reason for reason, _, _ in reasons})
    result["components"] |= {
        "schemas": dict(sorted(schemas.items())),
        "parameters": PARAMETERS | webhooks["parameters"],
        "headers": HEADERS,
        "responses": _shared_responses(described) | _head_refusals(paths) | webhooks["responses"],
        "examples": {example_name(*found): error_example(*found) for found in sorted(reasons)},
    }
    result["webhooks"] = describe_webhooks()
    result["paths"] = paths
    result = _simplify(result)
    for name, (values, description) in ENUMS.items():
        result["components"]["schemas"][name] = {"type": "string", "enum": list(values), "description": description}
    return result


def _public_path(path: str) -> str:
    """Replace the names of ids in a path by those of the reference."""
    for name, public_name in PUBLIC_NAMES.items():
        path = path.replace(f"{{{name}}}", f"{{{public_name}}}")
    return path


def _complete(operation: dict[str, Any]) -> Operation:
    """Add parameters, security, headers and refusals to a generated operation."""
    described: Operation = operation.pop(OPERATION_KEY)
    operation["summary"] = described.summary
    operation["parameters"] = list(described.parameters)
    operation["security"] = list(described.security)
    if described.requires_body:
        operation["requestBody"]["required"] = True
    success = operation["responses"]["200"]
    success["headers"] = COMMON_HEADERS | {name: reference("headers", name) for name in described.success_headers}
    if described.links:
        success["links"] = dict(described.links)
    for status, codes in described.reasons.items():
        shared = SHARED_RESPONSES.get(frozenset(codes))
        response = reference("responses", shared) if shared else error_response(status, codes, COMMON_HEADERS)
        operation["responses"][str(status)] = response
    return described


def _shared_responses(described: Mapping[str, Operation]) -> dict[str, Any]:
    responses = {}
    for operation in described.values():
        for status, codes in operation.reasons.items():
            if name := SHARED_RESPONSES.get(frozenset(codes)):
                responses[name] = error_response(status, codes, COMMON_HEADERS)
    return dict(sorted(responses.items()))


def _head_operation(get: Mapping[str, Any]) -> dict[str, Any]:
    """Describe HEAD, which every address with GET serves."""
    success = {"description": get["responses"]["200"]["description"], "headers": COMMON_HEADERS}
    refused = {status: reference("responses", _head_refused_name(status)) for status in get["responses"] if status != "200"}
    return {
        "operationId": f"head{get['operationId'].removeprefix('get').removeprefix('list').removeprefix('read')}",
        "summary": f"{get['summary']}: headers only",
        "description": HEAD_DESCRIPTION,
        "tags": ["headers only"],
        "security": get["security"],
        "parameters": get["parameters"],
        "responses": {"200": success} | refused,
    }


def _head_refused_name(status: str) -> str:
    return f"HeadRefused{status}" if int(status) in ERROR_HEADERS else "HeadRefused"


def _head_refusals(paths: Mapping[str, Any]) -> dict[str, Any]:
    """Describe the refusals of HEAD, by the name of their component: one for all statuses, and one for each with an own header."""
    description = "The status and the headers that GET would have, without a body."
    statuses = {status for operations in paths.values() for status in operations.get("head", {"responses": ()})["responses"]} - {"200"}
    return {
        _head_refused_name(status): {"description": description, "headers": error_response(int(status), {}, COMMON_HEADERS)["headers"]}
        for status in sorted(statuses)
    }


def _simplify(node: Any) -> Any:
    """Name shared enumerations, and write schemas in the way that most generators read."""
    if isinstance(node, list):
        return [_simplify(child) for child in node]
    if not isinstance(node, dict):
        return node
    simple = dict(_simple_members(node))
    if simple.get("type") in ("integer", ["integer", "null"]) and "enum" not in simple:
        bounded = all(abs(simple.get(bound, INT32 + 1)) <= INT32 for bound in ("minimum", "maximum"))
        simple.setdefault("format", "int32" if bounded else "int64")
    for name, (values, _) in ENUMS.items():
        if simple.get("enum") == list(values):
            simple = {key: value for key, value in simple.items() if key not in ("enum", "type")} | reference("schemas", name)
    if isinstance(simple.get("enum"), list) and len(simple["enum"]) == 1 and simple.get("type") == "string":
        simple["const"] = simple.pop("enum")[0]
    return simple


def _simple_members(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if key == "value" and not isinstance(value, Mapping | list):
            yield key, value
        elif key in ("example", "examples", "value"):
            yield key, value if key != "examples" or isinstance(value, list) else _simplify(value)
        elif key == "allOf" and len(value) == 1:
            yield from value[0].items()  # drf-spectacular wraps a reference that has a description, as older versions needed it.
        elif key not in ("x-spec-enum-id", "default"):
            yield key, _simplify(value)
