# SPDX-License-Identifier: LGPL-2.1-or-later
"""What each way to run containers costs the host, by few numbers that were measured."""
import dataclasses
import json
import pathlib


@dataclasses.dataclass
class Model:
    """Bytes and seconds. azure_replay measures them and writes them as JSON."""
    scpv_overhead: float            # of a microVM from a template, above its function
    base: float                     # of a VM that runs many containers, with none in it
    per_container: float            # above its function: cgroup, page tables, namespaces
    czone_base: float
    czone_per_container: float      # the memory map of its zone included
    czone_residue: float            # of it, what a dead one leaves to its successor
    czone_share: float              # of a dead container's zone, returned
    virtio_mem_base: float
    virtio_mem_per_container: float
    virtio_mem_slack: float         # free memory that the platform leaves plugged, and residue
    virtio_mem_share: float         # of the other free memory, returned when asked
    virtio_mem_seconds_per_gib: float
    containers_per_vm: int = 64

    @classmethod
    def read(cls, path):
        data = json.loads(pathlib.Path(path).read_text(encoding="utf-8"))
        known = {f.name for f in dataclasses.fields(cls)}
        if set(data) - known or known - set(data) - {"containers_per_vm"}:
            raise ValueError(f"{path}: has {sorted(data)}, wanted are {sorted(known)}")
        return cls(**data)

    def write(self, path):
        pathlib.Path(path).write_text(json.dumps(dataclasses.asdict(self), indent=1) + "\n",
                                      encoding="utf-8")
