"""What users name and ask for: networks, containers, endpoints, attachments, and their specifications. Pure.

All modules are doors.
"""
