"""What is measured: dnet against the kernel's floor and against its peers. `python -m benchmarks`.

The runner (`__main__`) starts one `arena` per measurement, in namespaces of its own; the arena runs a contestant
(`contestants`, `peers`, `floor.c`), asks other programs whether the job was done (`oracle`) and prints what it
measured. For published ports (`publish`) it has hosts (`host`) whose ports are published by dnet (`engine_ports`) or
by `iptables`, and a LAN (`lan`) from where `traffic.c` loads one of them. `report` judges the numbers, `plot` and
`plot_publish` draw them.
"""
