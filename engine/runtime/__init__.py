"""The programs that run containers: OCI runtimes for dnet's own, Docker and Podman for theirs.

Doors: `process`, `targets`, `docker`, `logs`.
"""
