"""Builds dnet._core from the C files beside this one; called by setup.py through cffi_modules."""

from pathlib import Path

from cffi import FFI

HERE = Path(__file__).parent
SOURCES = (
    "socket.c",
    "thread.c",
    "nlattr.c",
    "link.c",
    "bridge.c",
    "routes.c",
    "tc.c",
    "sandbox.c",
    "pin.c",
    "announce.c",
    "conntrack.c",
    "ethtool.c",
    "frame.c",
    "bpf.c",
)

ffibuilder = FFI()
# The declarations are the C header itself, less the lines that only the preprocessor reads.
ffibuilder.cdef("\n".join(line for line in (HERE / "dnet.cdef.h").read_text().splitlines() if not line.startswith("#")))
ffibuilder.set_source(
    "dnet._core",
    '#include "dnet.cdef.h"',
    sources=[f"csrc/{name}" for name in SOURCES],
    include_dirs=["csrc"],
    depends=["csrc/dnet.cdef.h", "csrc/internal.h", "csrc/bridge_vlan.bpf.h"],
    libraries=["pthread"],
    extra_compile_args=["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-Wno-unused-parameter"],
    py_limited_api=True,
)
