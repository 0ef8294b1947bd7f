"""Runs nftables transactions; the only module that touches libnftables.

The Python binding comes with the distribution (Debian: python3-nftables), not from PyPI, so it is looked for
where the distribution keeps it when the interpreter's own path has none.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from dnet import errors
from dnet.errors import DnetError, KernelRefused, Unsupported

DISTRIBUTION_PATHS = (
    "/usr/lib/python3/dist-packages/nftables/nftables.py",
    "/usr/lib/python3/site-packages/nftables/nftables.py",
)
# Descriptors from FD_SETSIZE on do not fit into select(2)'s set; some are left for the library's own opening.
DESCRIPTOR_MAX = 1000
_INSTALL_HINT = "install the packages python3-nftables and libnftables1 (Debian's names)"


def _load_binding() -> Any:
    try:
        import nftables
    except ImportError:
        pass
    else:
        return nftables
    for path in DISTRIBUTION_PATHS:
        spec = importlib.util.spec_from_file_location("nftables", path)
        if spec is None or spec.loader is None:
            continue
        module = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except FileNotFoundError:
            continue
        sys.modules["nftables"] = module
        return module
    raise Unsupported("the Python binding of nftables is not installed", object="nftables", hint=_INSTALL_HINT)


class Element(NamedTuple):
    """An element of a set (`value` None) or map; parts of a concatenation are a tuple, a prefix is `address/length`."""

    key: tuple[str, ...]
    value: tuple[str, ...] | None
    packets: int
    bytes: int


class Nft:
    """nftables in the network namespace this is first used in: a libnftables context, or else the program `nft`.

    libnftables waits with select(2), which aborts the process when its socket's descriptor is 1024 or above. So it is
    opened before many descriptors are, and where that is too late the program serves, some 10 ms slower.
    """

    def __init__(self) -> None:
        self.transactions = 0  # that have changed something
        self._context: Any = None
        self._is_program = False

    def prepare(self) -> None:
        """Load the library and open its socket."""
        if self._context is not None or self._is_program:
            return
        probe = os.open(os.devnull, os.O_RDONLY)
        os.close(probe)
        if probe > DESCRIPTOR_MAX:
            self._is_program = True
            return
        try:
            self._context = _load_binding().Nftables()
            self._context.set_handle_output(True)
        except OSError as error:
            sentence = f"libnftables cannot be loaded: {error}"
            raise Unsupported(sentence, object="nftables", hint=_INSTALL_HINT) from error

    def close(self) -> None:
        """Let go of the library and its socket; a later call loads it again."""
        self._context = None

    def _command(self, text: str, *, as_json: bool = False) -> tuple[int, str, str]:
        """Run commands; return the exit code, the output and what was said about errors."""
        self.prepare()
        if self._is_program:
            import subprocess

            options = ["-a", *(["-j"] if as_json else [])]
            try:
                done = subprocess.run(
                    ["nft", *options, "-f", "-"], input=text, capture_output=True, text=True, check=False
                )
            except FileNotFoundError as error:
                hint = "install the package nftables"
                raise Unsupported("the program nft is not installed", object="nftables", hint=hint) from error
            return done.returncode, done.stdout, done.stderr
        self._context.set_json_output(as_json)
        code, output, complaints = self._context.cmd(text)
        return code, output, complaints

    def run(self, commands: Sequence[str], what: str) -> None:
        """Run the commands as one transaction: all of them take effect, or none. `what` names it in errors."""
        if not commands:
            return
        code, _, text = self._command("\n".join(commands))
        if code:
            raise _refusal(what, text)
        self.transactions += 1

    def json(self, command: str, kind: str) -> list[Any]:
        """Run a listing command and return the items of one kind, as libnftables-json(5) describes them."""
        code, output, text = self._command(command, as_json=True)
        if code:
            raise _refusal(command, text)
        return [item[kind] for item in json.loads(output or '{"nftables": []}')["nftables"] if kind in item]

    def elements(self, table: str, kind: str, name: str) -> list[Element]:
        """Return the elements of one set or map with their counters; never on a hot path."""
        bodies = self.json(f"list {kind} {table} {name}", kind)
        return [_element(item) for body in bodies for item in body.get("elem", ())]

    def has_elements(self, table: str, name: str) -> bool:
        """Whether a set holds anything; a table without the set is somebody else's, which holds what it holds."""
        if not self.has_table(table):
            return False
        try:
            return bool(self.elements(table, "set", name))
        except KernelRefused:
            return True

    def has_table(self, table: str) -> bool:
        """Whether a table such as `inet dnet` exists and has chains."""
        return bool(self.chains(table))

    def chains(self, table: str) -> set[str]:
        """Return the names of a table's chains; none when there is no such table."""
        return {item["name"] for item in self.all_chains() if f"{item['family']} {item['table']}" == table}

    def all_chains(self) -> list[Any]:
        """Return the chains of all tables, as libnftables-json(5) describes them."""
        # For `list tables` libnftables 1.0.6 reads all elements of all tables (60 ms at 10,000).
        return self.json("list chains", "chain")


def _element(item: Any) -> Element:
    key, value = item if isinstance(item, list) else (item, None)
    body = key.get("elem", {}) if isinstance(key, dict) else {}
    counter = body.get("counter", {})
    packets, size = (counter.get("packets", 0), counter.get("bytes", 0)) if isinstance(counter, dict) else (0, 0)
    return Element(_parts(body.get("val", key)), None if value is None else _parts(value), packets, size)


def _parts(value: Any) -> tuple[str, ...]:
    match value:
        case {"concat": [*parts]}:
            return tuple(word for part in parts for word in _parts(part))
        case {"prefix": {"addr": address, "len": length}}:
            return (f"{address}/{length}",)
        case _:
            return (str(value),)


def _refusal(what: str, text: str) -> DnetError:
    """Turn nft's words into an error; its message ends with the C library's name of the errno."""
    lines = [line for line in text.splitlines() if "rror:" in line] or text.splitlines()[:1]
    sentence = re.sub(r"^.*?[Ee]rror: ", "", lines[0]) if lines else ""
    if "not supported" in text or "Protocol not supported" in text:
        return Unsupported(
            f"cannot {what}: {sentence}",
            object=what,
            hint="this kernel needs nf_tables (CONFIG_NF_TABLES_INET, NFT_NAT, NFT_MASQ)",
        )
    if "element does not exist" in text:  # how libnftables itself says ENOENT of an interval
        return KernelRefused(what, errno.ENOENT, os.strerror(errno.ENOENT))
    number = next((code for code in (errno.EPERM, errno.EEXIST, errno.ENOENT, errno.EBUSY) if _named(code, text)), 0)
    return errors.refused(what, number, os.strerror(number) if number else sentence)


def _named(code: int, text: str) -> bool:
    return os.strerror(code) in text
