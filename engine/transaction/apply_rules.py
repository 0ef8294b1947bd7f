"""The nftables part of a change."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Sequence

from dnet.drivers import nat_table
from dnet.errors import KernelRefused, Unsupported
from dnet.objects.host import NftTable
from dnet.objects.object import Object
from dnet.transaction.context import Context


def prepare_rules(context: Context, kinds: Iterable[type[Object]]) -> None:
    """Load the library for what is to be told to nftables: its descriptor has to be a low one."""
    if any(kind.backend == "nft" for kind in kinds):
        context.nft.prepare()


def change_rules(context: Context, before: Sequence[Object], after: Sequence[Object]) -> None:
    """Delete the nftables objects that only `before` has and create those of `after`, in one transaction."""
    old, new = set(before), set(after)
    replace_rules(context, [item for item in before if item not in new], [item for item in after if item not in old])


def replace_rules(context: Context, gone: Sequence[Object], made: Sequence[Object]) -> None:
    """Take elements out and put others in, in one transaction unless some are missing already."""
    try:
        context.nft.run([*nat_table.commands(gone, "delete"), *nat_table.commands(made, "add")], "change nftables")
    except KernelRefused as error:
        if error.errno != errno.ENOENT:
            raise
        create_rules(context, ())
        delete_rules(context, gone)
        create_rules(context, made)


def create_rules(context: Context, rules: Sequence[Object]) -> None:
    """Add nftables objects in one transaction; those that exist already stay.

    When somebody has flushed the ruleset, the table is made again with all that belongs into it.
    """
    try:
        context.nft.run(nat_table.commands(rules, "add"), "set up nftables")
    except KernelRefused as error:
        if error.errno != errno.ENOENT or context.nft.has_table(nat_table.TABLE):
            raise
        context.nft.run(nat_table.commands([*context.all_rules(), *rules], "add"), "set up nftables")


def delete_rules(context: Context, rules: Sequence[Object]) -> None:
    """Delete nftables objects in one transaction, or, when some are missing, one by one.

    The table goes last, and stays when another engine on this host has networks in it.
    """
    elements = list(dict.fromkeys(item for item in rules if not isinstance(item, NftTable)))
    try:
        context.nft.run(nat_table.commands(elements, "delete"), "remove nftables elements")
    except Unsupported:
        return  # where there is no nftables, there are no rules
    except KernelRefused:
        for item in elements:
            _delete_rule(context, item)
    for item in rules:
        if isinstance(item, NftTable) and not context.nft.has_elements(nat_table.TABLE, "bridges"):
            _delete_rule(context, item)


def _delete_rule(context: Context, item: Object) -> None:
    try:
        context.nft.run(nat_table.commands([item], "delete"), f"remove {item}")
    except KernelRefused as error:
        if error.errno != errno.ENOENT:
            raise
