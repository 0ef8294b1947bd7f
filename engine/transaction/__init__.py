"""Reserve, apply, commit or undo: a change that happens completely or not at all.

Doors: `context`, `containers`, `networks`, `uplinks`, `vlans`, `recovery`, `rollback`, `apply`, `apply_kernel`,
`apply_rules`, `reserve_containers`, `reserve_endpoints`, `reserve_names`, `reserve_ports`, `reserve_network`, `lots`,
`firewalls`, `identity`.
"""
