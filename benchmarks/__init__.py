"""Benchmarks: dnet against the kernel's floor and against its peers. Start with `python -m benchmarks`.

`__main__` plans and measures, `tasks` does one measurement on a fake host, `verify` checks its result, and `report`
judges the numbers. README.md says what each file does.
"""
