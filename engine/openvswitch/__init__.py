"""Bridges and ports in Open vSwitch's database.

Door: `switch`.
"""
