"""Other people's languages, translated into calls of the engine: pipework's, Docker's JSON.

All modules are doors.
"""
