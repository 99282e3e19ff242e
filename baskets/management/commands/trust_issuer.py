"""`trust_issuer`: the former name of `add_issuer`."""

from baskets.management.aliases import deprecated_alias
from baskets.management.commands import add_issuer

Command = deprecated_alias(add_issuer.Command, old="trust_issuer", new="add_issuer")
