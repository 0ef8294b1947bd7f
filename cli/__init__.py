"""The command line: the group, its global options, and how errors become exit codes.

Commands live in the modules beside this one and are loaded when they are called, so that each pays only for
itself. They decide nothing: they parse, make one call of the engine's, and render.
"""

from __future__ import annotations

import errno
import gc
import importlib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType, ModuleType
from typing import Any, NoReturn, TypeVar


class _Later(ModuleType):
    """Stands for a module of the standard library until something of it is asked for that it has not got itself."""

    def __init__(self, name: str, **own: object) -> None:
        super().__init__(name)
        self.__spec__ = type(importlib.__spec__)(name, None)
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        """Load the module, and look there; who has this one already goes on looking through it."""
        if name == "__path__":  # an import statement asks whether this is a package
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)
        return getattr(importlib.import_module(self.__name__), name)


# What loading makes is there to stay; looking through it for garbage every 700 objects takes 3 ms.
gc.set_threshold(100_000)
# click and dataclasses load it for what is not done here, a sixth of click's time.
sys.modules.setdefault("inspect", _Later("inspect"))
# Nearly as much again are modules of which click takes names while it is loaded, for what is never asked of it here:
# parameters that are UUIDs, and sentences in other languages, of which it has none.
for _later in (
    _Later("uuid", UUID=type("UUID", (), {})),
    _Later("gettext", gettext=str, ngettext=lambda one, several, number: one if number == 1 else several),
):
    sys.modules.setdefault(_later.__name__, _later)

import click  # noqa: E402
import click.types  # noqa: E402

for _name in ("uuid", "gettext"):
    if isinstance(sys.modules[_name], _Later):
        del sys.modules[_name]
# For a parameter that is one nevertheless, somebody else's.
click.types.uuid = _Later("uuid")  # type: ignore[attr-defined]

import dnet  # noqa: E402

F = TypeVar("F", bound=Callable[..., Any])

# name: (module, what it does)
COMMANDS = {
    "create": ("containers", "Create a container's network: sandbox, endpoint, addresses"),
    "run": ("processes", "Create a container and run a program in it"),
    "start": ("processes", "Start containers' processes again"),
    "stop": ("processes", "End containers' processes"),
    "exec": ("processes", "Run one more program in a running container"),
    "logs": ("processes", "Show what a detached container wrote"),
    "rm": ("containers", "Remove containers"),
    "rename": ("containers", "Give a container another name"),
    "ps": ("containers", "List containers"),
    "port": ("containers", "Show where a container's ports are published"),
    "inspect": ("containers", "Show all that is known of containers"),
    "bulk-create": ("bulk", "Create many containers in one pass"),
    "bulk-delete": ("bulk", "Remove many containers in one pass"),
    "network": ("networks", "Create, list, inspect and remove networks"),
    "vlan": ("vlans", "Change and list the VLANs of containers"),
    "attach": ("wiring", "Attach containers, dnet's and others', to a network or a device of the host's"),
    "detach": ("wiring", "Take an interface off a container"),
    "attachment": ("wiring", "List what is attached by hand"),
    "route": ("wiring", "Add, remove and list routes in containers"),
    "pipework": ("wiring", "Do what pipework does, by its own words"),
    "link": ("rules", "List links between containers"),
    "nat": ("rules", "Show published ports and masquerading, with counters"),
    "reconcile": ("mending", "Compare everything with the kernel, and make again what is missing"),
    "restore": ("mending", "Build everything again after a reboot"),
    "doctor": ("mending", "Look at the host: what it lacks, and what is in the way"),
    "watch": ("rules", "Keep containers' resolv.conf in step with the host's"),
    "plan": ("about", "Show what a command would create, touching nothing"),
    "completion": ("about", "Print the completion script of a shell"),
    "version": ("about", "Show the version"),
}

# Python has words of its own.
COMMANDS_BY_OTHER_NAMES = {"exec": "execute"}

EXIT_FAILURE = 1
EXIT_INVALID = 2
EXIT_UNSUPPORTED = 6
EXIT_PARTLY = 10
EXIT_RUN_FAILED = 125  # of `run` and `exec`, which exit with their program's status
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143


def _show_help(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001  click's own form
    if value and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


class Option(click.Option):
    """An option whose help is one line; in click's own, `inspect` looks for the indentation of several."""

    def __init__(self, declarations: Sequence[str], help: str | None = None, **settings: Any) -> None:  # noqa: A002
        super().__init__(declarations, **settings)
        self.help = help


def option(*declarations: str, **settings: Any) -> Callable[[F], F]:
    """Decorate a command with such an option."""
    return click.option(*declarations, cls=Option, **settings)


# click's own looks for translations of its one sentence each time, 2 ms.
_HELP = Option(
    ["--help"], is_flag=True, expose_value=False, is_eager=True, help="Show this message and exit.", callback=_show_help
)


class Command(click.Command):
    """A command with `--help`."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option, unless the command passes it on."""
        return _HELP if ctx.help_option_names else None


class Group(Command, click.Group):
    """A group of such commands."""

    command_class = Command


class LazyGroup(Group):
    """A group whose commands' modules are imported when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dnet.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, COMMANDS_BY_OTHER_NAMES.get(cmd_name, cmd_name.replace("-", "_")))
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Call the command; click's parser does not say whose options it could not read."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            if error.ctx is None and command:
                error.ctx = click.Context(command, parent=ctx, info_name=ctx.invoked_subcommand)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands from the table, loading none."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


class Session:
    """What the global options say; passed to every command."""

    def __init__(self, state_dir: str, run_dir: str, *, is_verbose: bool) -> None:
        self.state_dir = state_dir
        self.run_dir = run_dir
        self.is_verbose = is_verbose
        self.is_plan = False

    def open(self) -> dnet.Engine:
        """Open the engine; its notices go to stderr."""
        return dnet.open(self.state_dir, self.run_dir, on_notice=say)


def say(sentence: str) -> None:
    """Tell the person at the terminal something."""
    click.echo(f"dnet: {sentence}", err=True)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["--help"], "max_content_width": 100})
@option("--state-dir", envvar="DNET_STATE_DIR", default="", metavar="DIR", help="State [default: /var/lib/dnet].")
@option("--run-dir", envvar="DNET_RUN_DIR", default="", metavar="DIR", help="Sandboxes [default: /run/dnet].")
@option("-v", "--verbose", is_flag=True, help="Show a traceback when something fails.")
@click.pass_context
def cli(ctx: click.Context, state_dir: str, run_dir: str, *, verbose: bool) -> None:
    """Container networks, one or thousands at a time.

    \b
    Example:
      dnet bulk-create --count 500
      ip netns exec c-1 ping -c 1 $(dnet inspect -f '{{ .NetworkSettings.IPAddress }}' c-2)
      dnet bulk-delete --all

    Exit codes: 0 done, 1 unexpected failure, 2 invalid request, 3 not found, 4 conflict, 5 exhausted,
    6 unsupported here, 7 refused by the kernel, 8 refused by OVSDB or the OCI runtime, 9 state damaged,
    10 bulk partly done, 13 needs root.
    """
    if ctx.obj is None:
        ctx.obj = Session(state_dir, run_dir, is_verbose=verbose)


class Terminated(KeyboardInterrupt):
    """SIGTERM, handled as Ctrl-C is: what was begun is taken back."""


def _on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """Interrupt once; while that is being cleaned up, further signals are ignored."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def exit_code(error: dnet.DnetError) -> int:
    """Return the documented exit code of an error's kind."""
    table = (
        (dnet.InvalidRequest, 2),
        (dnet.NotFound, 3),
        (dnet.Conflict, 4),
        (dnet.Exhausted, 5),
        (dnet.Unsupported, 6),
        (dnet.NeedsRoot, 13),
        (dnet.KernelRefused, 7),
        (dnet.OvsError, 8),
        (dnet.RuntimeFailed, 8),
        (dnet.StateError, 9),
    )
    return next((code for kind, code in table if isinstance(error, kind)), EXIT_FAILURE)


def fail(sentence: str, hint: str = "") -> None:
    """Print an error as the contract has it: a sentence, then a hint."""
    say(sentence)
    if hint:
        click.echo(f"  {hint}", err=True)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit, leaving it to the kernel to take the process apart; Python takes 12 ms for it."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code; what it had to print is written."""
    word = next((word for word in arguments if any("\ud800" <= letter <= "\udfff" for letter in word)), None)
    if word is None:
        return _run(arguments)
    fail(f"the argument {os.fsencode(word)!r} is not UTF-8", "names, paths and programs' arguments are text here")
    return EXIT_RUN_FAILED if not {"run", "exec"}.isdisjoint(arguments) else EXIT_INVALID


def _run(arguments: list[str]) -> int:
    signal.signal(signal.SIGINT, _on_signal)
    signal.signal(signal.SIGTERM, _on_signal)
    is_verbose = not {"-v", "--verbose"}.isdisjoint(arguments)
    try:
        code = cli.main(args=arguments, prog_name="dnet", standalone_mode=False)
        _flush()
    except click.exceptions.Exit as error:
        code = error.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        code = EXIT_INVALID
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "dnet"
        fail(_sentence(error.format_message()), f"see `{command} --help`")
        code = EXIT_RUN_FAILED if command in {"dnet run", "dnet exec"} else EXIT_INVALID
    except click.ClickException as error:
        fail(_sentence(error.format_message()))
        code = EXIT_INVALID
    except BrokenPipeError:
        # The reader has gone; nothing is left to say, and flushing at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILURE
    except (KeyboardInterrupt, click.Abort) as error:
        # click turns KeyboardInterrupt into Abort, with the original as its cause.
        say(
            "interrupted: what was being created is taken back, or there as a whole; "
            "what was being removed goes with the next command"
        )
        _tell_notes(error.__cause__ or error)
        was_terminated = isinstance(error, Terminated) or isinstance(error.__cause__, Terminated)
        code = EXIT_TERMINATED if was_terminated else EXIT_INTERRUPTED
    except OSError as error:
        if isinstance(error, dnet.DnetError) or error.errno not in {errno.ENOSPC, errno.EIO}:
            code = _report(error, is_verbose=is_verbose)
        else:
            fail(f"cannot write: {error.strerror}")
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = EXIT_FAILURE
    except Exception as error:  # noqa: BLE001  the last line of defence prints a sentence
        code = _report(error, is_verbose=is_verbose)
    return code if isinstance(code, int) else 0


def _flush() -> None:
    if sys.stdout:  # None where the caller has closed it
        sys.stdout.flush()


def _sentence(message: str) -> str:
    return message[:1].lower() + message[1:].rstrip(".")


def _report(error: Exception, *, is_verbose: bool) -> int:
    if is_verbose:
        import traceback

        traceback.print_exception(error)
    if isinstance(error, dnet.DnetError):
        fail(str(error), error.hint)
        code = exit_code(error)
    else:
        fail(f"unexpected failure: {type(error).__name__}: {error}", "this is a bug; `dnet -v ...` shows where")
        code = EXIT_FAILURE
    _tell_notes(error)
    return code


def _tell_notes(error: BaseException) -> None:
    for note in getattr(error, "__notes__", []):
        click.echo(f"  {note}", err=True)
