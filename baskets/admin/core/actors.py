"""Names the member of staff who sends a request, as an actor of the domain."""

from django.http import HttpRequest

from baskets.domain.actors import Actor, ActorKind


def staff_actor(request: HttpRequest) -> Actor:
    """Name the member of staff who sends a request, as the timeline will."""
    return Actor(
        kind=ActorKind.STAFF,
        name=request.user.get_username(),
        request_id=str(request.META.get("baskets.request_id", "")),
    )
