"""The likeliest mistakes in this code, one mutation each: the place, the change, and the tests that must fail."""

from tests.mutation.mutations import access, baskets, checkout, edges, events, stock
from tests.mutation.mutations.mutation import Mutation

ROOMS = (baskets, checkout, stock, access, events, edges)
MUTATIONS: tuple[Mutation, ...] = tuple(mutation for room in ROOMS for mutation in room.MUTATIONS)
