"""Waiting inside a container for an interface that somebody attaches.

For a program in the container, which may have no privilege, and no state directory.
"""

from __future__ import annotations

import fcntl
import os
import socket
import struct

NETLINK_ROUTE, RTMGRP_LINK = 0, 1
EVENT_BYTES = 1 << 16
SIOCGIFFLAGS = 0x8913  # linux/sockios.h
IFREQ = struct.Struct("=16sH22x")
IFF_RUNNING = 0x40  # the administrative state is up, and there is a carrier


def wait_for_interface(name: str) -> None:
    """Wait until this namespace has an interface of that name that is up and has a carrier.

    There is no time limit. OSError when netlink cannot be used.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_ROUTE) as events:
        # Before the first look, so that nothing is missed.
        events.bind((0, RTMGRP_LINK))
        while not _is_running(name):
            try:
                events.recv(EVENT_BYTES)
            except OSError as error:
                if error.errno != 105:  # ENOBUFS: more happened than fits, so look again
                    raise


def _is_running(name: str) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        try:
            answer = fcntl.ioctl(any_socket, SIOCGIFFLAGS, IFREQ.pack(os.fsencode(name), 0))
        except OSError:
            return False
    return bool(IFREQ.unpack(answer)[1] & IFF_RUNNING)
