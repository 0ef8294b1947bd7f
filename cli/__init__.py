"""The command line: the group of all commands, its global options, and the exit codes of errors.

The commands are in the modules beside this one, each loaded when one of its commands is called. They decide nothing:
they parse, make one call to the engine, and print.
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
    """Placeholder for a module of the standard library that imports it on first use."""

    def __init__(self, name: str, **own: object) -> None:
        super().__init__(name)
        self.__spec__ = type(importlib.__spec__)(name, None)
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        """Return a name of the real module; those who hold the placeholder go on using it."""
        if name == "__path__":  # an import statement asks whether this is a package
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            sys.modules.pop(self.__name__, None)
        return getattr(importlib.import_module(self.__name__), name)


# Nothing that imports create becomes garbage; searching it every 700 objects takes 3 ms.
gc.set_threshold(100_000)
# click and dataclasses import it for functions that are not called here; it takes a sixth of click's time.
sys.modules.setdefault("inspect", _Later("inspect"))
# Two more take nearly as long. click uses them for UUID parameters and for translations, of which it has none.
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
# For a parameter of somebody else's that is a UUID.
click.types.uuid = _Later("uuid")  # type: ignore[attr-defined]

import dnet  # noqa: E402

F = TypeVar("F", bound=Callable[..., Any])

# name: (module, what it does)
COMMANDS = {
    "create": ("containers", "Create a container's network: sandbox, endpoint, addresses"),
    "run": ("processes", "Create a container and run a program in it"),
    "start": ("processes", "Start containers' programs again"),
    "stop": ("processes", "Stop containers' programs"),
    "exec": ("processes", "Run one more program in a running container"),
    "logs": ("processes", "Print what a detached container wrote"),
    "rm": ("containers", "Remove containers"),
    "rename": ("containers", "Rename a container"),
    "ps": ("containers", "List containers"),
    "port": ("containers", "Show where a container's ports are published"),
    "inspect": ("containers", "Show everything about containers"),
    "bulk-create": ("bulk", "Create many containers in one change"),
    "bulk-delete": ("bulk", "Remove many containers in one change"),
    "network": ("networks", "Create, list, inspect and remove networks"),
    "vlan": ("vlans", "Change and list the VLANs of containers"),
    "attach": ("attachments", "Attach containers, also foreign ones, to a network or a device of the host"),
    "detach": ("attachments", "Remove an attached interface from a container"),
    "attachment": ("attachments", "List attached interfaces"),
    "route": ("routes", "Add, remove and list routes in containers"),
    "pipework": ("pipework", "Do what the script pipework does, with the same arguments"),
    "link": ("links", "List links between containers"),
    "nat": ("nat", "Show published ports and masquerading, with counters"),
    "reconcile": ("host", "Compare everything with the kernel, and create again what is missing"),
    "restore": ("host", "Create everything again after a reboot"),
    "doctor": ("host", "Examine the host: what it lacks, and what is in the way"),
    "watch": ("host", "Keep containers' resolv.conf in step with the host's"),
    "plan": ("plan", "Show what a command would create, changing nothing"),
    "completion": ("about", "Print the completion script of a shell"),
    "version": ("about", "Show the version"),
}

# Functions whose command has a name that is a word of Python.
FUNCTIONS = {"exec": "execute"}

EXIT_FAILURE = 1
EXIT_INVALID = 2
EXIT_UNSUPPORTED = 6
EXIT_PARTLY = 10
EXIT_RUN_FAILED = 125  # of `run` and `exec`, which otherwise exit with the status of their program
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
# Of errors, by class; `dnet --help` lists them.
EXIT_CODES = {
    "InvalidRequest": EXIT_INVALID,
    "NotFound": 3,
    "Conflict": 4,
    "Exhausted": 5,
    "Unsupported": EXIT_UNSUPPORTED,
    "KernelRefused": 7,
    "OvsError": 8,
    "RuntimeFailed": 8,
    "StateError": 9,
    "NeedsRoot": 13,
}


def _show_help(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001  click's own form
    if value and not ctx.resilient_parsing:
        click.echo(ctx.get_help(), color=ctx.color)
        ctx.exit()


class Option(click.Option):
    """An option whose help is one line; for several lines, click's own needs the module inspect."""

    def __init__(self, declarations: Sequence[str], help: str | None = None, **settings: Any) -> None:  # noqa: A002
        super().__init__(declarations, **settings)
        self.help = help


def option(*declarations: str, **settings: Any) -> Callable[[F], F]:
    """Decorate a command with an option."""
    return click.option(*declarations, cls=Option, **settings)


# click's own looks for a translation of its sentence each time, which takes 2 ms.
_HELP = Option(
    ["--help"], is_flag=True, expose_value=False, is_eager=True, help="Show this message and exit.", callback=_show_help
)


class Command(click.Command):
    """A command with `--help`."""

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        """Return the option, unless the command passes `--help` on."""
        return _HELP if ctx.help_option_names else None


class Group(Command, click.Group):
    """A group of commands with `--help`."""

    command_class = Command


class LazyGroup(Group):
    """A group that imports the module of a command when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Return the names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command's module and return the command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"dnet.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = getattr(module, FUNCTIONS.get(cmd_name, cmd_name.replace("-", "_")))
        return command

    def invoke(self, ctx: click.Context) -> object:
        """Call the command, and add it to errors of click's parser, which leaves it out."""
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            command = self.get_command(ctx, ctx.invoked_subcommand or "")
            if error.ctx is None and command:
                error.ctx = click.Context(command, parent=ctx, info_name=ctx.invoked_subcommand)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing their modules."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_text) for name, (_, help_text) in COMMANDS.items()])


class Session:
    """The global options, passed to every command."""

    def __init__(self, state_dir: str, run_dir: str, *, is_verbose: bool) -> None:
        self.state_dir = state_dir
        self.run_dir = run_dir
        self.is_verbose = is_verbose
        self.is_plan = False

    def open(self) -> dnet.Engine:
        """Open the engine, with its notices on stderr."""
        return dnet.open(self.state_dir, self.run_dir, on_notice=say)


def say(sentence: str) -> None:
    """Print a sentence for the user on stderr."""
    click.echo(f"dnet: {sentence}", err=True)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["--help"], "max_content_width": 100})
@option(
    "--state-dir", envvar="DNET_STATE_DIR", default="", metavar="DIR", help="State directory [default: /var/lib/dnet]."
)
@option("--run-dir", envvar="DNET_RUN_DIR", default="", metavar="DIR", help="Sandbox directory [default: /run/dnet].")
@option("-v", "--verbose", is_flag=True, help="Show a traceback if something fails.")
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
    """SIGTERM, which is handled like Ctrl-C: what was begun is undone."""


def _on_signal(number: int, _frame: FrameType | None) -> NoReturn:
    """Interrupt once, and ignore further signals during the rollback."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise Terminated if number == signal.SIGTERM else KeyboardInterrupt


def exit_code(error: dnet.DnetError) -> int:
    """Return the documented exit code of an error."""
    names = [kind.__name__ for kind in type(error).__mro__]
    return next((EXIT_CODES[name] for name in names if name in EXIT_CODES), EXIT_FAILURE)


def fail(sentence: str, hint: str = "") -> None:
    """Print an error on stderr: a sentence, then a hint."""
    say(sentence)
    if hint:
        click.echo(f"  {hint}", err=True)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command line and exit at once, without Python's own clean-up, which takes 12 ms."""
    code = run(sys.argv[1:] if arguments is None else arguments)
    for stream in filter(None, (sys.stdout, sys.stderr)):
        with suppress(OSError):
            stream.flush()
    os._exit(code)


def run(arguments: list[str]) -> int:
    """Run the command line and return its exit code, with all output written."""
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
        # Nobody reads any more, and flushing at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILURE
    except (KeyboardInterrupt, click.Abort) as error:
        # click turns KeyboardInterrupt into Abort, with the original as its cause.
        say(
            "interrupted: what was being created is rolled back, or complete; "
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
