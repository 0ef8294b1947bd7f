"""What a caller can do, one module per noun.

All modules are doors, for `dnet.engine`.
"""
