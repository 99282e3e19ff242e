"""What calls need of traces where these are off."""

from contextlib import AbstractContextManager, nullcontext

# The key of an event's `tracking` that holds the span context of its call. Partners do not see it.
EVENT_KEY = "traceparent"
UNTRACED: AbstractContextManager[None] = nullcontext()
