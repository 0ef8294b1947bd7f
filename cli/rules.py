"""nat show."""

from __future__ import annotations

import click

from dnet.cli import Session, render


@click.group()
def nat() -> None:
    """Show published ports and masquerading, with counters.

    \b
    Example:
      dnet nat show
      nft list table inet dnet
    """


@nat.command()
@click.option("--network", default="", metavar="NET", help="Only this network's.")
@render.json_option
@click.pass_obj
def show(session: Session, network: str, *, as_json: bool) -> None:
    """Show published ports and networks' source addresses, with counters.

    As in `iptables -t nat`, what is counted is the first packet of each connection.
    """
    with session.open() as engine:
        rows = engine.nat(network)
    if as_json:
        render.document([row._asdict() for row in rows])
        return
    header = ("KIND", "NETWORK", "CONTAINER", "FROM", "TO", "PACKETS", "BYTES")
    render.table(
        header, [(r.kind, r.network, r.container, r.source, r.target, str(r.packets), str(r.bytes)) for r in rows]
    )
