"""The command group `nat`."""

from __future__ import annotations

import click

from dnet import cli
from dnet.cli import Session, options, render


@click.group(cls=cli.Group)
def nat() -> None:
    """Show published ports and masquerading, with counters.

    \b
    Example:
      dnet nat show
      nft list table inet dnet
    """


@nat.command()
@cli.option("--network", default="", metavar="NET", help="Show this network only.")
@options.json_option
@click.pass_obj
def show(session: Session, network: str, *, as_json: bool) -> None:
    """Show published ports and networks' source addresses, with counters.

    As in `iptables -t nat`, the counters count the first packet of each connection.

    \b
    Example:
      dnet nat show --network bridge
    """
    with session.open() as engine:
        rows = [item._asdict() for item in engine.nat(network)]
    columns = {"KIND": "kind", "NETWORK": "network", "CONTAINER": "container", "FROM": "source", "TO": "target"}
    render.listing(rows, columns | {"PACKETS": "packets", "BYTES": "bytes"}, as_json=as_json)
