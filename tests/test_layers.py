"""The rules of the house, read from the sources: which wing imports which, which do no IO, how long things are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import dnet

ROOT = Path(__file__).resolve().parents[1]

# What a wing, or a module beside the wings, may import. `docs/architecture.md` draws the same arrows.
ARROWS = {
    "errors": set(),
    "model": {"errors"},
    "objects": {"errors", "model"},
    "drivers": {"errors", "model", "objects"},
    "state": {"errors", "model"},
    "linux": {"errors", "model", "objects"},
    "openvswitch": {"errors", "model", "objects"},
    "runtime": {"errors", "model", "linux"},
    "transaction": {"errors", "model", "objects", "drivers", "state", "linux", "openvswitch", "runtime"},
    "operations": {"errors", "model", "objects", "drivers", "linux", "runtime", "transaction"},
    "engine": {"errors", "model", "objects", "state", "linux", "openvswitch", "runtime", "transaction", "operations"},
    "adapters": {"errors", "model", "engine"},
    "vlan": {"errors"},
    "trial": {"errors", "engine", "operations"},
    "takeback": {"trial"},
    "cli": {"", "errors", "model", "adapters"},
}
WINGS = {name for name in ARROWS if (ROOT / "engine" / name).is_dir()}
PURE_WINGS = {"errors", "model", "objects", "drivers"}
API = "dnet"
CLI = "dnet.cli"

IO_MODULES = {"os", "socket", "subprocess", "sqlite3", "time", "random", "threading", "secrets", "shutil", "tempfile"}
IO_MODULES |= {"pathlib", "io", "fcntl", "select", "signal", "importlib", "asyncio", "ctypes", "dnet._core"}
WRITES_METHODS = "dnet.model.values"  # as the module dataclasses does
IO_BUILTINS = {"open", "print", "input", "exec", "eval", "compile", "__import__", "breakpoint"}
# Which wing or module may touch a library at all.
USERS = {
    "dnet._core": {"dnet.linux", "dnet.vlan"},
    "pyroute2": {"dnet.linux.dhcp"},
    "nftables": {"dnet.linux.nftables"},
    "ovs": {"dnet.openvswitch.ovsdb"},
    "sqlite3": {"dnet.state"},
    "click": {CLI},
    "yaml": {CLI},
}
# Modules that load others by other means than an import statement.
DYNAMIC_IMPORTERS = {API, CLI, "dnet.linux.nftables", "dnet.openvswitch.ovsdb"}

BANNED_WORDS = {"utils", "util", "helpers", "helper", "common", "manager", "base"}
FILE_LINES_MAX = 600
FUNCTION_LINES_MAX = 60
# The public method Engine.pipework calls what calls back.
LATE = {("dnet.engine", "dnet.adapters.pipework_run")}


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
FILES = sorted(
    path
    for directory in ("engine", "cli", "csrc", "tests", "benchmarks")
    for pattern in ("*.py", "*.c", "*.h", "*.sh")
    for path in (ROOT / directory).rglob(pattern)
)


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


def _wing(module: str) -> str:
    """Return the wing that a module is in, or the module beside the wings that it is."""
    return "cli" if _is_or_in(module, CLI) else module.removeprefix(API).lstrip(".").partition(".")[0]


def _doors(wing: str) -> set[str] | None:
    """Return the modules of a wing that others may import, as its first lines name them; None for all of them."""
    text = " ".join((ast.get_docstring(TREES[f"{API}.{wing}"]) or "").split())
    if "All modules are doors" in text:
        return None
    found = re.search(r"Doors?: (.*)", text)
    assert found, f"dnet.{wing} does not name its doors"
    return {f"{API}.{wing}.{name}" for name in re.findall(r"`(\w+)`", found[1])}


MODULES = [name for name in SOURCES if name != API and not _is_or_in(name, CLI)]
IN_CLI = [name for name in SOURCES if _is_or_in(name, CLI)]
PURE = [name for name in MODULES if _wing(name) in PURE_WINGS]
DOORS = {wing: _doors(wing) for wing in WINGS}


def test_every_module_is_in_a_wing():
    """Beside the wings there are only the modules that the table of arrows names."""
    assert {_wing(name) for name in MODULES} == set(ARROWS) - {"cli"}


def test_arrows_lead_down():
    """No wing is reached from itself."""
    left = {wing: targets - {""} for wing, targets in ARROWS.items()}
    while leaves := [wing for wing, targets in left.items() if not targets & left.keys()]:
        for wing in leaves:
            del left[wing]
    assert not left


def test_arrows_are_drawn():
    """The table in docs/architecture.md shows the same wings, with the same arrows between them."""
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    drawn = {
        wing: set(re.findall(r"`(\w+)`", cell))
        for wing, cell in re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\|$", text, flags=re.MULTILINE)
    }
    assert drawn == {wing: ARROWS[wing] & WINGS for wing in WINGS}


@pytest.mark.parametrize("module", [*MODULES, *IN_CLI])
def test_imports_follow_the_arrows(module):
    """A module imports its own wing, and doors of the wings that the arrows lead to."""
    for name in {name for name in _imports(module) if name in SOURCES}:
        wing = _wing(name)
        if wing == _wing(module) or (module, name) in LATE:
            continue
        assert wing in ARROWS[_wing(module)], f"{module} imports {name}"
        doors = DOORS.get(wing)
        assert doors is None or name in doors, f"{module} imports {name}, which is no door"


@pytest.mark.parametrize("wing", sorted(WINGS | {"cli"}))
def test_wings_have_no_import_cycles(wing):
    """No module imports, by any way round in its wing, itself."""
    inside = {name for name in SOURCES if _wing(name) == wing}
    edges = {name: {to for to in _imports(name) if to in inside} for name in inside}
    while leaves := [name for name, targets in edges.items() if not targets & edges.keys()]:
        for name in leaves:
            del edges[name]
    assert not edges


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_do_no_io(module):
    """A module of a pure wing imports nothing that does IO, nor the extension."""
    for name in _imports(module):
        assert name not in IO_MODULES, f"{module} is pure and imports {name}"
        assert name.partition(".")[0] not in IO_MODULES, f"{module} is pure and imports {name}"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_call_no_io(module):
    """A pure module opens, prints and evaluates nothing by builtin functions either."""
    called = {
        node.func.id
        for node in ast.walk(TREES[module])
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & (IO_BUILTINS - ({"exec"} if module == WRITES_METHODS else set()))


@pytest.mark.parametrize("library", USERS)
def test_libraries_have_one_user(library):
    """Each library, and the extension, is imported in its own wing or module only."""
    users = {name for name in SOURCES if any(_is_or_in(found, library) for found in _imports(name))}
    assert not {name for name in users if not any(_is_or_in(name, user) for user in USERS[library])}


@pytest.mark.parametrize("module", SOURCES)
def test_no_hidden_imports(module):
    """Only the lazily loading edges, and who needs a distribution's package, import by name at run time."""
    names = {name for name in _imports(module) if name.partition(".")[0] == "importlib"}
    assert not names or module in DYNAMIC_IMPORTERS


@pytest.mark.parametrize("module", MODULES)
def test_library_is_silent(module):
    """Library code neither prints nor logs. Engine alone warns, of old keywords, which only Python code passes."""
    silent = {"logging", "warnings", "syslog"} - ({"warnings"} if module == "dnet.engine" else set())
    assert not {name for name in _imports(module) if name.partition(".")[0] in silent}
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


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_are_short(path):
    """A file of the product, of its tests or of its benchmarks has at most 600 lines."""
    assert len(path.read_text(encoding="utf-8").splitlines()) <= FILE_LINES_MAX


@pytest.mark.parametrize("module", SOURCES)
def test_functions_are_short(module):
    """A function has at most 60 lines."""
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
