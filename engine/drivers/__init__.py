"""Which objects a network, an endpoint, an attachment or an uplink is. Pure. `driver` is the contract of a driver.

Doors: `desired` (the way to the drivers `bridge` and `openvswitch`, and to `sandbox`), `attachment`, `nat_table`,
`host_files`, `link_environment`, `existing_bridge`, `displaced_route`, `uplink`, `uplink_snapshot`.
"""
