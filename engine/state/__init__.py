"""What dnet remembers: an SQLite database, its rows, their owners and phases.

Door: `store`.
"""
