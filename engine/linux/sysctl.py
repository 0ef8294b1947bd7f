"""Files of /proc/sys: forwarding and what goes with it, settings of devices."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from dnet.errors import KernelRefused, Unsupported
from dnet.linux import files
from dnet.linux.netlink import device_index

FORWARDING_PATHS = {4: "/proc/sys/net/ipv4/ip_forward", 6: "/proc/sys/net/ipv6/conf/all/forwarding"}
IPV6_DIRECTORY = "/proc/sys/net/ipv6/conf"
OWN_INDEX_MIN = 1 << 20  # the store gives out nothing below, the kernel next to nothing above


def write(path: str, value: str) -> None:
    """Write a file of /proc/sys; raises OSError."""
    with open(path, "w", encoding="ascii") as file:
        file.write(value)


class Sysctls:
    """Settings of the host, and which of them this process has switched on."""

    def __init__(self, on_notice: Callable[[str], None]) -> None:
        self._on_notice = on_notice
        # What was switched on here: a file and what it held before.
        self._switched: dict[str, str] = {}

    def of_device(self, device: str, keys: Sequence[str]) -> dict[str, str]:
        """Return those of net.ipv6.conf.DEVICE that there are."""
        paths = {key: f"{IPV6_DIRECTORY}/{device}/{key}" for key in keys}
        return {key: files.read(path).strip() for key, path in paths.items() if os.path.exists(path)}

    def switch_forwarding(self, version: int) -> None:
        """Switch on forwarding of IP `version`, and say so, where it is off."""
        path = FORWARDING_PATHS[version]
        if not os.path.exists(path):
            raise Unsupported(f"this host has no IPv{version}", object=path, hint="make the network without --ipv6")
        if files.read_number(path) != 0:
            return
        if version == 6:
            self._keep_accepting_routers()
        self._switch(path, "1")
        self._on_notice(f"turned on IPv{version} forwarding ({path.removeprefix('/proc/sys/').replace('/', '.')}=1)")

    def _keep_accepting_routers(self) -> None:
        """Set accept_ra 1 to 2: a host that forwards would otherwise lose routes it has by router advertisements."""
        changed = []
        for device in os.listdir(IPV6_DIRECTORY):
            path = f"{IPV6_DIRECTORY}/{device}/accept_ra"
            is_ours = (device_index(device) or 0) >= OWN_INDEX_MIN
            if device not in {"all", "default", "lo"} and not is_ours and files.read_number(path) == 1:
                self._switch(path, "2")
                changed.append(device)
        if changed:
            self._on_notice(f"set accept_ra=2 on {', '.join(sorted(changed))}, so that IPv6 routes learned there stay")

    def _switch(self, path: str, value: str) -> None:
        before = files.read(path).strip()
        try:
            write(path, value)
        except OSError as error:
            raise KernelRefused(f"write {value} to {path}", error.errno or 0, str(error.strerror)) from error
        self._switched[path] = before

    def keep(self) -> None:
        """Keep what was switched on, whatever is undone later."""
        self._switched.clear()

    def restore(self) -> None:
        """Write back what the files held before this process switched them on."""
        while self._switched:
            write(*self._switched.popitem())
