"""Writes a compiled BPF object as a C header: `bpf_header.py OBJECT >HEADER`; called by `make bpf`."""  # noqa: INP001

from __future__ import annotations

import hashlib
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# Of elf(5) and linux/bpf.h.
SHT_SYMTAB, SHT_REL = 2, 9
STT_FUNC = 2
R_BPF_64_64 = 1
INSTRUCTION = struct.Struct("<BBhi")  # code, registers (destination lowest), offset, immediate
MAP = "dnet_vlan_ports"


class Section(NamedTuple):
    """What is used of an ELF section."""

    kind: int
    data: bytes
    link: int
    target: int


class Symbol(NamedTuple):
    """What is used of an ELF symbol."""

    name: str
    kind: int
    section: int
    value: int
    size: int


def _text(table: bytes, offset: int) -> str:
    return table[offset : table.index(b"\0", offset)].decode()


def _sections(image: bytes) -> list[Section]:
    (start,) = struct.unpack_from("<Q", image, 40)
    size, count = struct.unpack_from("<HH", image, 58)
    found = []
    for at in range(start, start + size * count, size):
        _, kind, _, _, offset, length, link, target = struct.unpack_from("<IIQQQQII", image, at)
        found.append(Section(kind, image[offset : offset + length], link, target))
    return found


def _symbols(sections: list[Section]) -> list[Symbol]:
    table = next(section for section in sections if section.kind == SHT_SYMTAB)
    names = sections[table.link].data
    return [
        Symbol(_text(names, name), info & 15, section, value, size)
        for name, info, _, section, value, size in struct.iter_unpack("<IBBHQQ", table.data)
    ]


def _map_references(sections: list[Section], symbols: list[Symbol], code: int) -> set[int]:
    """Return the bytes of section `code` where the map is referred to; any other relocation is a mistake."""
    found = set()
    for section in sections:
        if section.kind == SHT_REL and section.target == code:
            for offset, info in struct.iter_unpack("<QQ", section.data):
                if info & 0xFFFFFFFF != R_BPF_64_64 or symbols[info >> 32].name != MAP:
                    raise SystemExit(f"the program refers to something else than its map: {symbols[info >> 32].name}")
                found.add(offset)
    return found


def programs(image: bytes) -> Iterator[tuple[str, list[tuple[int, ...]], list[int]]]:
    """Yield each program: its name, its instructions, and which of these refer to the map."""
    sections = _sections(image)
    symbols = _symbols(sections)
    for symbol in symbols:
        if symbol.kind != STT_FUNC:
            continue
        end = symbol.value + symbol.size
        references = _map_references(sections, symbols, symbol.section)
        within = sorted((at - symbol.value) // INSTRUCTION.size for at in references if symbol.value <= at < end)
        code = list(INSTRUCTION.iter_unpack(sections[symbol.section].data[symbol.value : end]))
        yield symbol.name, code, within


def main() -> None:
    """Write the header to stdout."""
    found = list(programs(Path(sys.argv[1]).read_bytes()))
    version = hashlib.sha256(repr(found).encode()).hexdigest()[:8]
    lines = [
        "/* Made from bridge_vlan.bpf.c by `make bpf`, and compared with it by `make check-bpf`. Not to be edited. */",
        "/* clang-format off */",
        f'#define DNET_VLAN_VERSION "{version}"',
    ]
    for name, code, references in found:
        lines.append(f"static const struct bpf_insn {name}[] = {{")
        lines += [f"    {{{c:#04x}, {r & 15}, {r >> 4}, {offset}, {value}}}," for c, r, offset, value in code]
        lines.append("};")
        lines.append(f"static const uint16_t {name}_maps[] = {{{', '.join(map(str, references))}}};")
    sys.stdout.write("\n".join(lines) + "\n")


main()
