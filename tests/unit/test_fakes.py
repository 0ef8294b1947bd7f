"""The stand-ins of the kernel, nftables, BPF and Open vSwitch have all that the real ones have, called the same way."""

from __future__ import annotations

import inspect

import pytest

from dnet.linux.bpf import Bpf
from dnet.linux.kernel import Kernel
from dnet.linux.namespace_view import NamespaceView
from dnet.linux.nftables import Nft
from dnet.linux.send import Sender
from dnet.linux.sysctl import Sysctls
from dnet.openvswitch.switch import OpenVSwitch
from tests.support.fakes import FakeBpf, FakeKernel, FakeNamespaceView, FakeNft, FakeSwitch, FakeSysctls

PAIRS = [
    (Kernel, FakeKernel),
    (NamespaceView, FakeNamespaceView),
    (Sender, FakeKernel),
    (Sysctls, FakeSysctls),
    (Nft, FakeNft),
    (Bpf, FakeBpf),
    (OpenVSwitch, FakeSwitch),
]


def public(kind: type) -> dict[str, object]:
    """Return the public methods of a class, by name."""
    return {name: value for name, value in vars(kind).items() if callable(value) and not name.startswith("_")}


METHODS = [(real, fake, name) for real, fake in PAIRS for name in public(real)]


@pytest.mark.parametrize(("real", "fake", "name"), METHODS, ids=lambda value: getattr(value, "__name__", value))
def test_fake_has_the_method(real, fake, name):
    """Every public method of the real one exists in the fake and takes the same arguments, with the same defaults."""
    assert name in public(fake), f"{fake.__name__} lacks {name}"
    wanted, found = (inspect.signature(public(kind)[name]).parameters.values() for kind in (real, fake))
    assert [(item.name, item.kind, item.default) for item in found] == [
        (item.name, item.kind, item.default) for item in wanted
    ]
