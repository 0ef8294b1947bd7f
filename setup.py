"""Adds the C extension to what pyproject.toml says; abi3, so that one wheel serves every CPython from 3.11 on."""

from setuptools import setup

setup(
    cffi_modules=["csrc/build.py:ffibuilder"],
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
