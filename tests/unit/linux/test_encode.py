"""Which device a message is about."""

from __future__ import annotations

import struct

import pytest

from dnet._core import ffi
from dnet.errors import KernelRefused
from dnet.linux.kernel import Kernel
from dnet.linux.netlink import new_batch
from dnet.objects.links import LinkUp


def index_of(item: LinkUp) -> int:
    """Return the index in the message of an object, which follows nlmsghdr and 4 bytes of ifinfomsg."""
    batch, data = new_batch(1)
    Kernel(lambda _: None).sender.encode(item, batch)
    return int(struct.unpack_from("=i", ffi.buffer(data, batch.length), 20)[0])


def test_chosen_index():
    """A message goes by the index that was chosen."""
    assert index_of(LinkUp("lo", 7, "")) == 7


def test_index_of_somebody_else():
    """Without one, a device of the host's goes by its name, and one that is missing is refused."""
    assert index_of(LinkUp("lo", 0, "")) == 1
    with pytest.raises(KernelRefused, match="No such device"):
        index_of(LinkUp("no-such-device", 0, ""))


def test_inside_a_sandbox():
    """The host's device of the same name has nothing to do with one inside a sandbox."""
    assert index_of(LinkUp("lo", 0, "web")) == 0
