"""The programs that make a Linux bridge filter VLANs, and their map; the user of bpf(2).

Two programs and one map serve all bridges of a run directory, pinned in a bpffs there. The map leads from a device's
index to the VLANs it passes. Programs are pinned under the version of their instructions once they are in place
everywhere: a process that finds its own version has nothing to do, one that does not replaces what it finds. The
map is replaced only when it is gone or means something else, and is filled before anything uses it.

What attaches the programs to devices are netlink messages: see objects.ClsactHooks and objects.VlanProgram.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn

from dnet import errors
from dnet._core import ffi, lib
from dnet.errors import Exhausted, StateError
from dnet.model.vlan import VID_MAX, PortVlans

# The number changes whenever struct dnet_vlan_port means something else.
MAP_NAME = "ports-1"
DIRECTIONS = {"into": lib.DNET_VLAN_INTO, "out": lib.DNET_VLAN_OUT}
PIN_PREFIXES = ("ports-", "into-", "out-")
LOG_BYTES = 1 << 16
LIST_TOGETHER = 1024
NEEDS_BPF = "this needs BPF in the kernel (CONFIG_BPF_SYSCALL), of 5.10 or later, on a little-endian machine"


class Bpf:
    """The VLAN programs of a run directory."""

    def __init__(self, directory: str) -> None:
        """Keep pins in `directory`, which becomes a bpffs when it is first written to."""
        self._directory = directory
        self._map = -1
        self._programs: dict[str, int] = {}
        self._is_in_place = False

    def close(self) -> None:
        """Close the descriptors; a later call opens them again."""
        self._is_in_place = False
        descriptors, self._map, self._programs = [self._map, *self._programs.values()], -1, {}
        for descriptor in descriptors:
            if descriptor >= 0:
                os.close(descriptor)

    @property
    def programs(self) -> Mapping[str, int]:
        """The descriptors of the programs `into` and `out`, from `prepare` on."""
        return self._programs

    def prepare(self, all_ports: Callable[[], Mapping[int, PortVlans]]) -> bool:
        """Open or load map and programs; return whether these are in place in every bridge that has any.

        When they are not, put them there and then call `keep`. `all_ports` tells what belongs into a map that is made
        anew. Until `keep` the programs of before go on working, with the map of before.
        """
        if self._is_in_place:
            return True
        self._make_directory()
        if self._open_map():
            self._open_programs()
        else:
            self._make_map(all_ports())
        for name in DIRECTIONS:
            if name not in self._programs:
                self._programs[name] = self._load(name)
        return self._is_in_place

    def keep(self) -> None:
        """Pin the programs, which are in place everywhere by now, instead of what was pinned before."""
        self._unpin(keep=MAP_NAME)
        for name, descriptor in self._programs.items():
            self._pin(descriptor, _pin_name(name))
        self._is_in_place = True

    def remove(self) -> None:
        """Remove all pins; map and programs go with the last bridge that has them."""
        self.close()
        self._unpin()

    def _unpin(self, keep: str = "") -> None:
        # A kernel may put files of its own into every bpffs (CONFIG_BPF_PRELOAD: maps.debug, progs.debug).
        with contextlib.suppress(FileNotFoundError):
            for name in os.listdir(self._directory):
                if name.startswith(PIN_PREFIXES) and name != keep:
                    os.unlink(os.path.join(self._directory, name))

    def set_ports(self, ports: Mapping[int, PortVlans]) -> None:
        """Give devices, by index, the VLANs they pass, in place of what they passed before; after `prepare`.

        Each device changes at one stroke.
        """
        self._set(self._map, ports)

    def delete_ports(self, indexes: Iterable[int]) -> None:
        """Forget devices, which pass nothing from then on; what is missing already is no failure."""
        keys = list(indexes)
        if not keys or not self._open_map():
            return
        code = lib.dnet_vlan_forget(self._map, ffi.new("uint32_t[]", keys), len(keys))
        if code:
            _refuse("remove entries of the VLAN map", -code)

    def ports(self) -> dict[int, PortVlans]:
        """Return what the map holds; empty when there is none."""
        if not self._open_map():
            return {}
        found: dict[int, PortVlans] = {}
        cursor, count = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        entries = ffi.new("struct dnet_vlan_port[]", LIST_TOGETHER)
        while cursor[0] != ffi.cast("uint32_t", -1):
            code = lib.dnet_vlan_list(self._map, cursor, entries, LIST_TOGETHER, count)
            if code:
                _refuse("read the VLAN map", -code)
            found.update((entries[number].index, _vlans(entries[number])) for number in range(count[0]))
        return found

    # The pins

    def _make_directory(self) -> None:
        try:
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
        except OSError as error:
            raise StateError(
                f"cannot make directory {self._directory}: {error.strerror}", object=self._directory
            ) from error
        code = lib.dnet_bpf_directory(os.fsencode(self._directory))
        if code:
            _refuse(f"mount a bpffs on {self._directory}", -code)

    def _path(self, name: str) -> bytes:
        return os.fsencode(os.path.join(self._directory, name))

    def _open(self, name: str) -> int:
        """Return a descriptor of what is pinned, or -1."""
        result = ffi.new("int *")
        code = lib.dnet_bpf_open(self._path(name), result)
        if code in {-errno.ENOENT, -errno.ENOTDIR}:
            return -1
        if code:
            _refuse(f"open {name} in {self._directory}", -code)
        return int(result[0])

    def _pin(self, descriptor: int, name: str) -> bool:
        """Pin a descriptor; return whether the name was free."""
        code = lib.dnet_bpf_pin(descriptor, self._path(name))
        if code not in {0, -errno.EEXIST}:
            _refuse(f"pin {name} in {self._directory}", -code)
        return not code

    # The map

    def _open_map(self) -> bool:
        if self._map < 0:
            self._map = self._open(MAP_NAME)
        return self._map >= 0

    def _make_map(self, ports: Mapping[int, PortVlans]) -> None:
        result = ffi.new("int *")
        code = lib.dnet_vlan_map(result)
        if code:
            _refuse("make the VLAN map", -code)
        descriptor = int(result[0])
        try:
            self._set(descriptor, ports)
            is_ours = self._pin(descriptor, MAP_NAME)
        except BaseException:
            os.close(descriptor)
            raise
        if is_ours:
            self._map = descriptor
        else:
            os.close(descriptor)
            self._open_map()

    def _set(self, descriptor: int, ports: Mapping[int, PortVlans]) -> None:
        indexes = ffi.new("uint32_t[]", list(ports))
        entries = ffi.new("struct dnet_vlan_port[]", len(ports))
        for entry, (index, vlans) in zip(entries, ports.items(), strict=True):
            entry.index = index
            entry.untagged = vlans.untagged
            if vlans.trunk:
                ffi.memmove(entry.tagged, _bits(vlans), lib.DNET_VLAN_TAGGED_BYTES)
        code = lib.dnet_vlan_set(descriptor, indexes, entries, len(ports))
        if code == -errno.E2BIG:
            raise Exhausted(f"the VLAN map has room for {lib.DNET_VLAN_PORTS_MAX} devices", object="VLAN map")
        if code:
            _refuse("set entries of the VLAN map", -code)

    # The programs

    def _open_programs(self) -> None:
        """Open the programs of this version that are pinned; when both are, they are in place."""
        for name in DIRECTIONS:
            descriptor = -1 if name in self._programs else self._open(_pin_name(name))
            if descriptor < 0:
                return
            self._programs[name] = descriptor
        self._is_in_place = True

    def _load(self, name: str) -> int:
        result, text = ffi.new("int *"), ffi.new("char[]", LOG_BYTES)
        code = lib.dnet_vlan_program(self._map, DIRECTIONS[name], result, text, LOG_BYTES)
        if code:
            lines = bytes(ffi.string(text)).decode(errors="replace").splitlines()
            _refuse(f"load the VLAN program {name}", -code, lines[-1] if lines else "")
        return int(result[0])


def _pin_name(direction: str) -> str:
    return f"{direction}-{bytes(ffi.string(lib.dnet_vlan_version())).decode()}"


def _bits(vlans: PortVlans) -> bytes:
    """Return the bits of struct dnet_vlan_port's `tagged`."""
    return sum(1 << vid for vid in vlans.tagged).to_bytes(lib.DNET_VLAN_TAGGED_BYTES, "little")


def _vlans(entry: Any) -> PortVlans:
    bits = int.from_bytes(bytes(ffi.buffer(entry.tagged)), "little")
    if not bits:
        return PortVlans(access=entry.untagged)
    tagged = [vid for vid in range(1, VID_MAX + 1) if bits >> vid & 1]
    starts = [vid for vid in tagged if not bits >> (vid - 1) & 1]
    ends = [vid for vid in tagged if not bits >> (vid + 1) & 1]
    return PortVlans(trunk=tuple(zip(starts, ends, strict=True)), native=entry.untagged)


def _refuse(what: str, code: int, words: str = "") -> NoReturn:
    if code in {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENODEV}:
        raise errors.refused(what, code, os.strerror(code), unsupported=NEEDS_BPF)
    raise errors.refused(what, code, os.strerror(code), words=words)
