"""`distrust_issuer`: the former name of `remove_issuer`."""

from baskets.management.aliases import deprecated_alias
from baskets.management.commands import remove_issuer

Command = deprecated_alias(remove_issuer.Command, old="distrust_issuer", new="remove_issuer")
