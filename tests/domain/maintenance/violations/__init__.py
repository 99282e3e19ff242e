"""Every way to break a rule of the stored data that the tests of the checker try."""

from tests.domain.maintenance.violations import baskets, checkouts, feed, schema, stock, timeline

VIOLATIONS = [violation for room in (stock, baskets, checkouts, feed, schema, timeline) for violation in room.VIOLATIONS]
