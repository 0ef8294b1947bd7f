"""Reserve, apply, commit or undo: a change that happens completely or not at all.

Doors: `context`, `containers`, `networks`, `vlans`, `recovery`, `reserve_containers`, `reserve_network`, `lots`,
`firewalls`, `identity`.
"""
