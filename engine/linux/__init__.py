"""All that talks to Linux: netlink, nftables, BPF, namespaces, files, programs.

Doors: `kernel`, `builder`, `nftables`, `bpf`, `namespaces`, `files`, `watch_files`, `threads`, `spawn`, `listeners`,
`dhcp`, `wait`.
"""
