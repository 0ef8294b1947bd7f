"""Bridges and ports in Open vSwitch's database.

Doors: `switch`, `remote`.
"""
