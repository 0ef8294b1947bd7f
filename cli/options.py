"""The options that `create` and `bulk-create` share, and how they become a specification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from dnet.errors import InvalidRequest

F = TypeVar("F", bound=Callable[..., Any])

_SHARED = (
    click.option(
        "--network",
        default="bridge",
        metavar="MODE",
        show_default=True,
        help="bridge, none, or a network's name.",
    ),
    click.option("--mtu", type=int, default=0, metavar="BYTES", help="MTU of the interface [default: the network's]."),
    click.option("--label", "labels", multiple=True, metavar="K=V", help="Label; repeatable."),
)


def create_options(function: F) -> F:
    """Add the shared options to a command."""
    for option in reversed(_SHARED):
        function = option(function)
    return function


def key_values(items: Sequence[str], what: str) -> dict[str, str]:
    """Read K=V items; a K alone has an empty value."""
    pairs = {}
    for item in items:
        key, _, value = item.partition("=")
        if not key:
            raise InvalidRequest(f"invalid {what} {item!r}", object=item, hint="write KEY=VALUE")
        pairs[key] = value
    return pairs
