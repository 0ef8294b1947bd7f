"""Creates, inspects and removes 100 containers through the library: `sudo python docs/examples/hundred.py`.

Nothing else is needed: no daemon, and no network made beforehand.
"""

from __future__ import annotations

import sys

import dnet

COUNT = 100


def show(done: int, total: int) -> None:
    """Draw how far it has come; called some twenty times a second."""
    print(f"\r{done} of {total}", end="", file=sys.stderr, flush=True)


def main() -> None:
    """Create, look, remove."""
    with dnet.open(on_notice=lambda sentence: print(sentence, file=sys.stderr)) as engine:
        network = engine.create_network("hundred", labels={"made-by": "hundred.py"})
        try:
            specs = [dnet.ContainerSpec(name=f"hundred-{number}", network="hundred") for number in range(1, COUNT + 1)]
            created = engine.create_many(specs, on_progress=show)
            seconds = sum(created.phases.values())
            print(f"\ncreated {len(created.containers)} containers in {seconds:.2f} s on {network.subnet}")

            last = engine.container(f"hundred-{COUNT}")
            [endpoint] = last.endpoints
            print(f"{last.name} is {endpoint.address.ip} ({endpoint.mac}), joined by {endpoint.host_interface}")
            print(f"run something in it: nsenter --net={last.sandbox} ip address")

            try:
                engine.create(last.name, network="hundred")
            except dnet.Conflict as error:
                print(f"as it should be: {error}")
        finally:
            removed = engine.delete_many(engine.names(prefix="hundred"), on_progress=show)
            engine.delete_networks(["hundred"])
            print(f"\nremoved {len(removed)} containers and their network")


if __name__ == "__main__":
    main()
