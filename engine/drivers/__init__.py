"""Which objects a network, an endpoint, an attachment or an uplink is. Pure.

Doors: `desired` (the way to the drivers `bridge`, `openvswitch` and `attachment`, and to `sandbox`), `nat_table`,
`host_files`, `link_environment`, `existing_bridge`, `displaced_route`, `uplink`, `uplink_snapshot`.
"""
