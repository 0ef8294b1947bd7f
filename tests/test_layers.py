"""The house's rules: who may import whom, who may do IO, how long things are; read from the sources."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dnet

ROOT = Path(__file__).resolve().parents[1]

# The pure core of the design; modules that come later join it by saying so in their first lines.
PURE_CORE = {"dnet.errors", "dnet.model", "dnet.names", "dnet.objects", "dnet.ipam", "dnet.nat", "dnet.views"}
PURE_CORE |= {"dnet.ports", "dnet.wanted", "dnet.etcfiles", "dnet.drivers.bridge", "dnet.specs", "dnet.rows"}
PURE_CORE |= {"dnet.drivers.ovs", "dnet.interfaces"}
# Ranks that everything else is stacked upon.
LOWEST, HIGHEST = "dnet.errors", "dnet.engine"
API = "dnet"
CLI = "dnet.cli"

IO_MODULES = {"os", "socket", "subprocess", "sqlite3", "time", "random", "threading", "secrets", "shutil", "tempfile"}
IO_MODULES |= {"pathlib", "io", "fcntl", "select", "signal", "importlib", "asyncio", "ctypes", "dnet._core"}
WRITES_METHODS = "dnet.values"  # as the module dataclasses does
IO_BUILTINS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
# Who may touch a library at all; `dnet.cli` stands for all that is in it.
USERS = {
    "dnet._core": {"dnet.kernel", "dnet.netlink", "dnet.vlan", "dnet.bpf"},
    "pyroute2": {"dnet.kernel", "dnet.dhcp"},
    "nftables": {"dnet.nft"},
    "ovs": {"dnet.ovsdb"},
    "sqlite3": {"dnet.database"},
    "pytest": set(),
    "click": {CLI},
    "yaml": {CLI},
}
# Their loaders by other means than an import statement.
DYNAMIC_IMPORTERS = {API, CLI, "dnet.nft", "dnet.ovsdb"}

BANNED_WORDS = {"utils", "util", "helpers", "helper", "common", "manager", "base"}
FILE_LINES_MAX, FILE_LINES_NEVER = 600, 900
FUNCTION_LINES_MAX = 80
# Files over 600 lines that somebody has looked at hard, each with the reason why it is one file.
LOOKED_AT_HARD = {
    "engine/kernel.py": "the one user of the extension: encoders, the maker and deletion share its types",
    "engine/objects.py": "one vocabulary: every kind of object, a few lines each",
    "engine/specs.py": "all that can be asked of networks and containers, each once",
    "engine/store.py": "one class with all that is asked of the database, each a statement or two",
}


def _sources() -> dict[str, Path]:
    """Return every module of the product by its import name."""
    found = {}
    for package, directory in (("dnet", ROOT / "engine"), (CLI, ROOT / "cli")):
        for path in sorted(directory.rglob("*.py")):
            parts = path.relative_to(directory).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


SOURCES = _sources()
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in SOURCES.items()}
C_FILES = sorted(path for pattern in ("*.c", "*.h") for path in (ROOT / "csrc").glob(pattern))


def _imports(module: str) -> Iterator[str]:
    """Yield what a module imports, anywhere in it: modules of ours by their full name, others by what is written."""
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            origin = node.module or ""
            for alias in node.names:
                full = f"{origin}.{alias.name}"
                yield full if full in SOURCES or full == "dnet._core" else origin


def _is_or_in(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def _rank(module: str) -> tuple[int, str]:
    """Return the rank and kind that a module's first lines declare."""
    text = ast.get_docstring(TREES[module]) or ""
    found = re.search(r"\bRank (\d+)(?:, (pure|IO))?\.", text)
    assert found, f"{module} does not say its rank in its docstring, as in 'Rank 3, pure.'"
    return int(found[1]), found[2] or ""


RANKED = [name for name in SOURCES if name != API and not _is_or_in(name, CLI)]
IN_CLI = [name for name in SOURCES if _is_or_in(name, CLI)]
PURE = [name for name in RANKED if _rank(name)[1] == "pure"]


def test_ranks_are_documented():
    """The table in docs/architecture.md lists every module with the rank that it declares, and no others."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = {
        name.rstrip("/"): int(rank)
        for rank, cell in re.findall(r"^\| (\d+) \| (.*?) \|", text, flags=re.MULTILINE)
        for name in re.findall(r"`([a-z]+/?)`", cell)
    }
    assert drawn == {name.split(".")[1]: _rank(name)[0] for name in RANKED if name != "dnet.drivers"}


def test_ranks_span_the_house():
    """Errors lie at the bottom, the engine on top of all that it uses."""
    assert _rank(LOWEST)[0] == 0
    assert _rank(HIGHEST)[0] > max(_rank(name)[0] for name in _imports(HIGHEST) if name in RANKED)


@pytest.mark.parametrize("module", RANKED)
def test_imports_go_down(module):
    """A module of the engine imports only modules of strictly lower rank, and nothing of the edges."""
    rank, _ = _rank(module)
    for name in _imports(module):
        if name in RANKED:
            assert _rank(name)[0] < rank, f"{module} (rank {rank}) imports {name} (rank {_rank(name)[0]})"
        assert name != API, f"{module} imports the public API"
        assert not _is_or_in(name, CLI), f"{module} imports the command line"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_do_no_io(module):
    """A pure module imports nothing that does IO, nor the extension, nor a module that is not pure."""
    for name in _imports(module):
        assert name not in IO_MODULES, f"{module} is pure and imports {name}"
        assert name.partition(".")[0] not in IO_MODULES - {"dnet._core"}, f"{module} is pure and imports {name}"
        assert name not in RANKED or name in PURE, f"{module} is pure and imports {name}, which is not"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_call_no_io(module):
    """A pure module opens, prints and evaluates nothing by builtin functions either."""
    called = {
        node.func.id
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & (IO_BUILTINS - ({"exec"} if module == WRITES_METHODS else set()))


def test_core_is_pure():
    """The modules that the design calls pure call themselves so, and are among those that the rules above look at."""
    assert set(PURE) >= PURE_CORE


@pytest.mark.parametrize("library", USERS)
def test_libraries_have_one_user(library):
    """Each library, and the extension, is imported in its own module only."""
    users = {name for name in SOURCES if any(_is_or_in(found, library) for found in _imports(name))}
    assert {CLI if _is_or_in(name, CLI) else name for name in users} <= USERS[library]


@pytest.mark.parametrize("module", SOURCES)
def test_no_hidden_imports(module):
    """Only the lazily loading edges, and who needs a distribution's package, import by name at run time."""
    names = {name for name in _imports(module) if name.partition(".")[0] == "importlib"}
    assert not names or module in DYNAMIC_IMPORTERS


@pytest.mark.parametrize("module", IN_CLI)
def test_cli_decides_nothing(module):
    """The command line knows the public API, values, documents and errors; nothing of kernel, state or policy."""
    allowed = {API, "dnet.errors", "dnet.model", "dnet.specs", "dnet.views", "dnet.wiring", "dnet.pipework"}
    ours = {name for name in _imports(module) if name in SOURCES}
    assert not {name for name in ours if not _is_or_in(name, CLI)} - allowed


def test_cli_has_no_import_cycles():
    """No module of the command line imports, by any way round, itself."""
    edges = {name: {found for found in _imports(name) if _is_or_in(found, CLI)} for name in IN_CLI}
    while leaves := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert not edges


@pytest.mark.parametrize("module", RANKED)
def test_library_is_silent(module):
    """Library code neither prints nor logs."""
    assert not {name for name in _imports(module) if name.partition(".")[0] in {"logging", "warnings", "syslog"}}
    assert "print" not in {node.id for node in ast.walk(TREES[module]) if isinstance(node, ast.Name)}
    assert not {"sys.stdout", "sys.stderr"} & {
        ast.unparse(node) for node in ast.walk(TREES[module]) if isinstance(node, ast.Attribute)
    }


@pytest.mark.parametrize("module", SOURCES)
def test_nobody_sleeps_to_wait(module):
    """Nothing in the product sleeps: it waits for an event, or works synchronously."""
    called = {ast.unparse(node.func) for node in ast.walk(TREES[module]) if isinstance(node, ast.Call)}
    assert not called & {"time.sleep", "sleep", "asyncio.sleep"}


@pytest.mark.parametrize("module", SOURCES)
def test_names_say_what_things_are(module):
    """No module and no class is called utils, helpers, common, manager or base."""
    assert not set(module.split(".")) & BANNED_WORDS
    assert not {word for part in module.split(".") for word in part.split("_")} & BANNED_WORDS
    for node in ast.walk(TREES[module]):
        if isinstance(node, ast.ClassDef):
            words = {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", node.name)}
            assert not words & BANNED_WORDS, f"class {node.name} of {module}"


@pytest.mark.parametrize("module", SOURCES)
def test_modules_open_with_their_place(module):
    """Every module opens with a docstring."""
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize("path", [*SOURCES.values(), *C_FILES], ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path):
    """A file has at most 600 lines unless it is listed with a reason, and never more than 900."""
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= FILE_LINES_NEVER
    assert lines <= FILE_LINES_MAX or str(path.relative_to(ROOT)) in LOOKED_AT_HARD


@pytest.mark.parametrize("module", SOURCES)
def test_functions_are_short(module):
    """A function has at most 80 lines."""
    too_long = [
        f"{node.name}: {(node.end_lineno or 0) - node.lineno + 1} lines"
        for node in ast.walk(TREES[module])
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        and (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES_MAX
    ]
    assert not too_long


@pytest.mark.parametrize("path", C_FILES, ids=lambda path: path.name)
def test_c_never_prints_or_exits(path):
    """The C core calls nothing that writes to a terminal or ends the process."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\])*\"", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    banned = r"\b(v?f?printf|f?puts|f?putc|putchar|perror|warnx?|errx?|syslog|_?exit|abort|assert)\s*\("
    assert not [found[0] for found in re.finditer(banned, text)]


def test_public_names():
    """`dnet.__all__` is this list; a change of it is a change of the contract."""
    assert dnet.__all__ == [
        "Attached",
        "Attachment",
        "AttachmentSpec",
        "Conflict",
        "Container",
        "ContainerSpec",
        "Created",
        "DnetError",
        "Endpoint",
        "EndpointSpec",
        "Engine",
        "Exhausted",
        "InvalidRequest",
        "KernelRefused",
        "Link",
        "NeedsRoot",
        "Network",
        "NetworkSpec",
        "NotFound",
        "OvsError",
        "PortMapping",
        "RuntimeFailed",
        "StateError",
        "StaticRoute",
        "Unsupported",
        "open",
        "wait_for_interface",
    ]


@pytest.mark.parametrize("name", dnet.__all__)
def test_public_names_exist(name):
    """Every public name leads to a documented thing that calls itself so."""
    value = getattr(dnet, name)
    assert value.__name__ == name
    assert value.__doc__


def test_public_names_are_typed():
    """A type checker sees every public name that a running program sees."""
    seen = {"open"}
    for node in ast.walk(TREES[API]):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dnet."):
            seen.update(alias.name for alias in node.names)
    assert set(dnet.__all__) <= seen


def test_public_errors_are_public():
    """Every error that the engine can raise can be named by its caller."""
    defined = {node.name for node in ast.walk(TREES["dnet.errors"]) if isinstance(node, ast.ClassDef)}
    assert defined <= set(dnet.__all__)


def test_unknown_name_is_an_attribute_error():
    """Asking the package for a name that it does not have is the usual error."""
    with pytest.raises(AttributeError, match="no attribute 'Frobnicator'"):
        _ = dnet.Frobnicator
