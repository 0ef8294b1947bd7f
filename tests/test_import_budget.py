"""What starting up may load. The costs are in docs: pyroute2 alone takes longer than creating a hundred containers."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

DNET = Path(sys.executable).parent / "dnet"
HEAVY = {"pyroute2", "ovs", "nftables", "asyncio"}


# Runs code, or a script with arguments, and tells at the very end what has been loaded. `-X importtime` would not
# do: it does not see what importlib.import_module loads.
REPORT = """
import atexit, os, sys
report, leave = (lambda: print("loaded:", *sys.modules, file=sys.stderr, flush=True)), os._exit
atexit.register(report)
os._exit = lambda code: (report(), leave(code))
sys.argv = sys.argv[1:]
exec(compile(open(sys.argv[0]).read(), sys.argv[0], "exec"))
"""


def _loaded(script: Path, *arguments: str, environment: dict[str, str] | None = None) -> set[str]:
    """Run a script in a fresh interpreter and return the modules that were loaded when it ended."""
    done = subprocess.run(
        [sys.executable, "-c", REPORT, str(script), *arguments],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
        env=os.environ | (environment or {}),
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("loaded: ")
    return set(last.split()[1:])


def _loaded_by_code(directory: Path, code: str) -> set[str]:
    script = directory / "code.py"
    script.write_text(code, encoding="utf-8")
    return _loaded(script)


def _packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.fixture(scope="module")
def by_import(tmp_path_factory) -> set[str]:
    """Return what `import dnet` loads."""
    return _loaded_by_code(tmp_path_factory.mktemp("import"), "import dnet")


@pytest.fixture(scope="module")
def by_help() -> set[str]:
    """Return what `dnet --help` loads."""
    return _loaded(DNET, "--help")


def test_import_is_light(by_import):
    """`import dnet` loads neither pyroute2, ovs, nftables nor asyncio, neither click nor sqlite3."""
    assert "dnet" in by_import
    assert not _packages(by_import) & (HEAVY | {"click", "sqlite3", "_sqlite3", "yaml", "cffi", "_cffi_backend"})


def test_import_loads_nothing_of_the_engine(by_import):
    """`import dnet` loads no other module of dnet's; each comes when a name of it is first used."""
    assert {name for name in by_import if name.startswith("dnet.")} == set()


def test_a_value_is_light(tmp_path):
    """Making a specification needs neither the database, the extension nor a library."""
    loaded = _loaded_by_code(tmp_path, "import dnet; dnet.ContainerSpec(name='web')")
    assert "dnet.model.container" in loaded
    assert not _packages(loaded) & (HEAVY | {"click", "sqlite3"})
    assert not loaded & {"dnet._core", "dnet.linux.kernel", "dnet.state.store", "dnet.engine"}


def test_help_is_light(by_help):
    """`dnet --help` loads neither pyroute2, ovs, nftables nor asyncio."""
    assert {"click", "dnet.cli"} <= by_help
    assert not _packages(by_help) & HEAVY


def test_help_loads_no_command(by_help):
    """`dnet --help` loads no command's module, and neither the database nor the extension."""
    assert not _packages(by_help) & {"sqlite3", "yaml"}
    assert not by_help & {"dnet._core", "dnet.engine", "dnet.cli.bulk", "dnet.cli.containers", "dnet.cli.networks"}


def test_ps_is_light(tmp_path):
    """`dnet ps` loads what reading the database needs, and none of the heavy libraries."""
    directories = {"DNET_STATE_DIR": str(tmp_path / "state"), "DNET_RUN_DIR": str(tmp_path / "run")}
    loaded = _loaded(DNET, "ps", environment=directories)
    assert {"sqlite3", "dnet.state.store"} <= loaded
    assert not _packages(loaded) & (HEAVY | {"yaml"})
    assert not loaded & {"dis", "tokenize"}, "inspect has been loaded"
    assert not loaded & {"uuid", "platform", "gettext"}


def test_what_is_put_off_is_there(tmp_path):
    """The module that commands do without is whole for who wants it, under whatever name it was imported."""
    loaded = _loaded_by_code(
        tmp_path,
        """if True:
        import dnet.cli
        import inspect
        from inspect import signature
        import inspect as again
        assert again.signature is inspect.signature is signature
        assert list(signature(dnet.cli.fail).parameters) == ["sentence", "hint"]
        assert again.getsource(dnet.cli.fail).startswith("def fail(")
        import gettext, uuid
        assert dnet.cli.click.UUID.convert(str(uuid.UUID(int=1)), None, None) == uuid.UUID(int=1)
        assert gettext.NullTranslations().gettext("dnet") == "dnet"
        """,
    )
    assert {"dis", "tokenize", "uuid", "gettext"} <= loaded


def test_click_without_them():
    """Errors of click's are the same sentences as with the modules that it is loaded without."""
    code = """if True:
        import {}
        from dnet import cli
        for words in ("ps --nothing", "nothing", "network create", "bulk-create --count x", "run"):
            try:
                cli.cli.main(words.split(), standalone_mode=False)
            except Exception as error:
                print(type(error).__name__, error.format_message())
    """
    found = [
        subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, text=True, check=True).stdout
        for module in ("sys", "gettext, uuid")
    ]
    assert found[0] == found[1]
    assert found[0].count("\n") == 5
