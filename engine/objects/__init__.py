"""What exists in the kernel: as dnet makes it, as the kernel reports it, and its inverse. Pure.

All modules are doors.
"""
