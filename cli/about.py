"""plan, completion, version."""

from __future__ import annotations

import platform

import click

import dnet
from dnet import cli
from dnet.cli import Session, render

PLANNABLE = (["create"], ["bulk-create"], ["network", "create"])


@click.command(cls=cli.Command, context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def plan(session: Session, command: tuple[str, ...]) -> object:
    """Show what COMMAND would create, object by object and in order, touching nothing.

    COMMAND is create, bulk-create or network create, with its arguments.

    \b
    Example:
      dnet plan create --network blue web
    """
    if not any(list(command[: len(words)]) == words for words in PLANNABLE):
        known = ", ".join(" ".join(words) for words in PLANNABLE)
        raise click.UsageError(f"there is no plan of `{' '.join(command)}`; plannable: {known}")
    session.is_plan = True
    with cli.cli.make_context("dnet", list(command), obj=session) as context:
        return cli.cli.invoke(context)


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
@render.json_option
def version(*, as_json: bool) -> None:
    """Show the version of dnet, and of what it runs on.

    \b
    Example:
      dnet version --json
    """
    if as_json:
        about = {
            "version": dnet.__version__,
            "kernel": platform.release(),
            "python": platform.python_version(),
        }
        render.document(about)
    else:
        click.echo(f"dnet {dnet.__version__}, Linux {platform.release()}, Python {platform.python_version()}")
