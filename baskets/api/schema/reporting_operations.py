"""Describes the lists and the feed, which back ends read, for the schema. The parameters of a list are those of its filters."""

from typing import Any

from baskets.api.lists.filters import (
    BasketFilterSet,
    EventFilterSet,
    IdentifierFilter,
    ListFilterSet,
    ProductIdFilter,
    SessionFilterSet,
    TimestampFilter,
    WordFilter,
)
from baskets.api.long_polling import MAX_WAIT_SECONDS
from baskets.api.schema.components import IDENTIFIER, PRODUCT_ID, Access, Paging, Parameter, describe_operation, query_parameter
from baskets.api.schema.refusals import reference
from baskets.api.serializers import events, responses


def _list_parameters(filter_set: type[ListFilterSet]) -> list[Parameter]:
    """Describe the parameters of a list call, in the order of its filters."""
    parameters = []
    for name, list_filter in filter_set.base_filters.items():
        schema: dict[str, Any] = {"type": "string"}
        match list_filter:
            case WordFilter():
                schema["enum"] = list(list_filter.words)
            case TimestampFilter():
                schema["format"] = "date-time"
            case IdentifierFilter():
                schema = IDENTIFIER
            case ProductIdFilter():
                schema = PRODUCT_ID
        parameters.append(query_parameter(name, str(list_filter.label), schema))
    return [*parameters, reference("parameters", "Limit"), reference("parameters", "NextToken")]


LIST_RULES = "Filters are combined by AND. An unknown parameter is refused: a typing error must not widen the query. For back ends."
list_baskets = describe_operation(
    "listbaskets",
    "List baskets",
    f"""
Lists the open baskets of all users of the partner, by user id. A response without `nextToken` is the last page; a basket that exists
throughout appears exactly once, whatever changes between two pages. {LIST_RULES}
""",
    tag="back end",
    access=Access.SERVER_KEY,
    response=responses.ListedBasket,
    paging=Paging.FINITE,
    writes=False,
    query=_list_parameters(BasketFilterSet),
)
list_sessions = describe_operation(
    "listcheckouts",
    "List checkouts",
    f"""
Lists the checkouts of all users of the partner in the order of their start, with items, outcome, prices and flags for staff; those of
deleted baskets included. `needsAttention=true` finds customers who may have paid for nothing. {LIST_RULES}
""",
    tag="back end",
    access=Access.SERVER_KEY,
    response=responses.ListedSession,
    paging=Paging.FINITE,
    writes=False,
    query=_list_parameters(SessionFilterSet),
)
read_events = describe_operation(
    "readevents",
    "Read the feed of events",
    f"""
Reads all changes of all baskets of the partner in one order, and skips none. Begin without a token, store the `nextToken` of each
response together with its events, and send it with the next request: every response has one, even an empty one. Events of one basket
come in the order of their `number`. With `wait`, a call that finds no event is answered as soon as there is one. The `webhooks` of this
document push the same events. {LIST_RULES}
""",
    tag="back end",
    access=Access.SERVER_KEY,
    response=events.Event,
    paging=Paging.ENDLESS,
    writes=False,
    query=[
        *_list_parameters(EventFilterSet),
        query_parameter(
            "wait",
            "How many seconds the call may wait for the first event. Absent: 0. It may return earlier, and without events.",
            {"type": "integer", "minimum": 0, "maximum": MAX_WAIT_SECONDS},
        ),
    ],
    refusals=["events_purged", "events_rewound"],
)
