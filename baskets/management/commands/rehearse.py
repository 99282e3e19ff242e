"""`rehearse`: the former name of `load_test`."""

from baskets.management.aliases import deprecated_alias
from baskets.management.commands import load_test

Command = deprecated_alias(load_test.Command, old="rehearse", new="load_test")
