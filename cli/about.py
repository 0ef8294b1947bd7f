"""Commands about dnet itself: version, completion."""

from __future__ import annotations

import platform

import click

import dnet
from dnet import cli
from dnet.cli import options, render


@click.command(cls=cli.Command)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    Example:
      eval "$(dnet completion bash)"
    """
    from click.shell_completion import get_completion_class

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"no completion for {shell}")
    # source() runs the shell to learn its version; the template needs no shell.
    script = kind(cli.cli, {}, "dnet", "_DNET_COMPLETE")
    click.echo(script.source_template % script.source_vars())


@click.command(cls=cli.Command)
@options.json_option
def version(*, as_json: bool) -> None:
    """Show the versions of dnet, of the kernel and of Python.

    \b
    Example:
      dnet version --json
    """
    kernel, python = platform.release(), platform.python_version()
    if as_json:
        render.document({"version": dnet.__version__, "kernel": kernel, "python": python})
    else:
        click.echo(f"dnet {dnet.__version__}, Linux {kernel}, Python {python}")
