"""Adds to pyproject.toml what it cannot say: the packages found in engine/, and the C extension.

The extension is abi3, so that one wheel serves every CPython from 3.11 on.
"""

from setuptools import find_packages, setup

setup(
    packages=["dnet", *(f"dnet.{name}" for name in find_packages("engine")), "dnet.cli"],
    cffi_modules=["csrc/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
