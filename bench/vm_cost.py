#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM costs the process that serves it: memory, file descriptors, threads.

Of VMs that libvirt's embedded driver starts in this process, and, to tell its share
from ours, of devices alone (czone_serve_socket), to which nobody has connected. The
first of a kind brings what all share; the others are told as each one's mean.
"""
import os
import pathlib
import tempfile

import czone
from measure import MIB, Bench, conditions
from microvm import initrd


def process():
    """Memory of this process alone, descriptors, threads."""
    rollup = pathlib.Path("/proc/self/smaps_rollup").read_text(encoding="ascii")
    private = sum(int(line.split()[1]) for line in rollup.splitlines()
                  if line.startswith(("Private_Clean", "Private_Dirty")))
    return {"memory": (private << 10, "bytes"),
            "fds": (len(os.listdir("/proc/self/fd")) - 1, "count"),
            "threads": (len(os.listdir("/proc/self/task")), "count")}


def start(directory, number):
    image = os.environ["CZONE_MICROVM"]
    return czone.VM.start(
        state_dir=directory, name=f"vm{number}", kernel=os.environ["CZONE_KERNEL"],
        initrd=initrd(), disks=[f"ro:{image}/rootfs.img"], boot_bytes=128 * MIB,
        pool_bytes=1 << 30)


def serve(directory, number):
    return czone.VM.serve(f"{directory}/{number}", pool_start=4 << 30, pool_bytes=1 << 30)


def measure(bench, known, name, make, vms):
    with tempfile.TemporaryDirectory(prefix="czone-cost.") as directory:
        counts, made = [process()], []
        for number in range(vms):
            bench.say(f"{name} {number + 1} of {vms}")
            made.append(make(directory, number))
            counts.append(process())
        if make is start:
            bench.add("cost_qemu_pss", [vm.stats().host_pss for vm in made], "bytes", **known)
        for vm in made:
            vm.close()
    for key, (_, unit) in counts[0].items():
        steps = [b[key][0] - a[key][0] for a, b in zip(counts, counts[1:])]
        bench.add(f"cost_{name}_first_{key}", steps[:1], unit, **known)
        bench.add(f"cost_{name}_{key}", steps[1:], unit, vms=vms, **known)


def main():
    bench = Bench(__doc__, runs=8, quick_runs=3)
    known = conditions()
    measure(bench, known, "device", serve, bench.runs)
    measure(bench, known, "vm", start, bench.runs)
    bench.end()


if __name__ == "__main__":
    main()
