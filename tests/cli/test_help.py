"""Help and completion: every command explains itself."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import click
import pytest

from dnet import cli
from tests.support.unprivileged_cli import COMMANDS, DNET, EXIT_CODES, PREFIX


def examples(context: click.Context) -> list[list[str]]:
    """Return the lines of the help's example that call dnet, in words, up to a pipe or an ampersand."""
    _, _, text = context.command.get_help(context).partition("Example:")
    text = text.partition("\n\n")[0]
    return [
        shlex.split(re.split(r" [|&]", re.sub(r"\$\(.*?\)", "word", line))[0])
        for line in map(str.strip, text.splitlines())
        if line.startswith("dnet ")
    ]


@pytest.mark.parametrize("path", COMMANDS)
def test_help_has_an_example(path):
    """The help of every command has an example."""
    assert "Example" in COMMANDS[path].command.get_help(COMMANDS[path])


@pytest.mark.parametrize("path", COMMANDS)
def test_help_explains(path):
    """The help of every command says what it does, and so does the list of commands."""
    command = COMMANDS[path].command
    assert command.help
    assert command.get_short_help_str()


@pytest.mark.parametrize("path", COMMANDS)
def test_options_explain_themselves(path):
    """Every option has a help text."""
    options = [option for option in COMMANDS[path].command.params if isinstance(option, click.Option)]
    assert [option.name for option in options if not option.help] == []


@pytest.mark.parametrize("path", [path for path in COMMANDS if examples(COMMANDS[path])])
def test_examples_are_valid(path):
    """Every example in the help can be parsed: its commands, options and arguments exist."""
    for words in examples(COMMANDS[path]):
        context, rest = COMMANDS["dnet"], words[1:]
        while isinstance(context.command, click.Group):
            name, *rest = rest
            context = COMMANDS[f"{context.command_path} {name}"]
        context.command.make_context(context.info_name, list(rest), parent=context.parent)


def test_help_is_listed_for_all():
    """The table from which the list of commands is printed says the same as the commands' own help."""
    for name, (_, text) in cli.COMMANDS.items():
        assert text[0].isupper()
        assert f"dnet {name}" in COMMANDS


@pytest.mark.parametrize("line", ["--help", "bulk-create --help", "network --help", "network create --help"])
def test_help_runs(terminal, line):
    """Help goes to stdout, exits 0, and needs no state."""
    done = terminal.run(*shlex.split(line))
    assert (done.returncode, done.stderr) == (0, "")
    assert "Usage: dnet" in done.stdout
    assert not terminal.state.exists()


def test_help_tells_exit_codes(terminal):
    """The exit codes of the contract are in `dnet --help`."""
    text = terminal.run("--help").stdout
    assert set(map(str, EXIT_CODES.values())) | {"0", "8", "10"} <= set(
        re.findall(r"\b\d+\b", text.partition("Exit codes")[2])
    )


# Completion

SYNTAX_CHECKS = {"bash": ["bash", "-n"], "zsh": ["zsh", "-n"], "fish": ["fish", "--no-execute"]}


@pytest.mark.parametrize("shell", SYNTAX_CHECKS)
def test_completion_script(terminal, shell):
    """The completion script of each shell is for that shell and for dnet, and needs neither state nor the shell."""
    done = terminal.run("completion", shell, environment={"PATH": "/nowhere"})
    assert (done.returncode, done.stderr) == (0, "")
    assert f"_DNET_COMPLETE={shell}_complete" in done.stdout
    assert re.search(r"^\s*(#compdef dnet$|complete .*\bdnet\b)", done.stdout, flags=re.MULTILINE)
    assert not terminal.state.exists()


@pytest.mark.parametrize("shell", [shell for shell in SYNTAX_CHECKS if shutil.which(shell)])
def test_completion_script_is_valid(terminal, shell):
    """A shell that is here finds no mistake in its script."""
    path = terminal.write("completion", terminal.run("completion", shell).stdout)
    done = subprocess.run([*SYNTAX_CHECKS[shell], path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("dnet bulk-", {"bulk-create", "bulk-delete"}),
        ("dnet network cr", {"create"}),
        ("dnet bulk-create --cou", {"--count"}),
        ("dnet completion ", {"bash", "zsh", "fish"}),
    ],
)
def test_completion_offers(terminal, typed, offered):
    """bash, having read the script, offers commands, options and choices."""
    words = typed.split(" ")
    lines = [
        'eval "$(dnet completion bash)"',
        f"COMP_WORDS=({' '.join(map(shlex.quote, words))})",
        f"COMP_CWORD={len(words) - 1}",
        "_dnet_completion dnet",
        'printf "%s\\n" "${COMPREPLY[@]}"',
    ]
    path = f"{Path(DNET).parent}:{os.environ.get('PATH', os.defpath)}"
    done = subprocess.run(
        [*PREFIX, "bash", "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        check=False,
        env=terminal.environment | {"PATH": path},
    )
    assert set(done.stdout.split()) == offered, done.stderr
