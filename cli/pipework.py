"""The command `pipework`."""

from __future__ import annotations

import click

import dnet
from dnet import cli
from dnet.cli import Session


@click.command(cls=cli.Command, context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", metavar="ARGUMENT...", nargs=-1, type=click.UNPROCESSED)
@click.pass_obj
def pipework(session: Session, words: tuple[str, ...]) -> int:
    """Do what the script pipework does, with the same arguments.

    \b
      dnet pipework HOSTIF [-i IF] [-l HOSTEND] [-a 4|6] TARGET IP/LEN[@GATEWAY] [MAC][@VLAN]
      dnet pipework HOSTIF ... TARGET dhcp|udhcpc|dhclient|dhcpcd[:OPTIONS] [MAC][@VLAN]
      dnet pipework mac:AA:BB:CC:DD:EE:FF ...
      dnet pipework --direct-phys HOSTIF ...
      dnet pipework --wait [-i IF]
      dnet pipework route|rule|tc TARGET ARGUMENT...

    \b
    Example:
      dnet pipework br0 docker:web 192.168.1.150/24@192.168.1.1
      dnet pipework ovs0 docker:web 192.168.1.151/24 @100
    """
    if words in {(), ("--help",)}:
        click.echo(click.get_current_context().get_help())
        return 0 if words else cli.EXIT_INVALID
    if words[0] == "--wait":
        from dnet.adapters import pipework

        command = pipework.parse(list(words))
        dnet.wait_for_interface(command.interface if isinstance(command, pipework.Wait) else "")
        return 0
    with session.open() as engine:
        return engine.pipework(words)
