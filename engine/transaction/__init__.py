"""Reserve, apply, commit or undo: a change that happens completely or not at all.

Doors: `context`, `containers`, `networks`, `uplinks`, `vlans`, `recovery`, `rollback`, `apply`, `apply_rules`,
`reserve_containers`, `reserve_network`, `lots`, `firewalls`, `identity`.
"""
