#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many VMs in one process: all of them are served, and requests take no longer for that.

The first two boot and have a container in a zone; the others are started and paused, which
costs no CPU: that many guests are more than 2 CPUs without KVM can carry. Timed are the
statistics of a VM with a reclaim after it, most of which finds nothing more to give back, with two VMs
and with all of them. The guest's part of that is emulated.
"""
import functools
import os
import time

import libvirt

import czone
import microvm as support
from measure import MIB, Bench, conditions
from microvm import Container, MicroVM, initrd


def start_paused(number):
    """One whose guest does not run: QEMU, its memory, its device, its connection."""
    image = os.environ["CZONE_MICROVM"]
    name = f"paused{number}"
    vm = czone.VM.start(
        state_dir=support.STATE.name, name=name, kernel=os.environ["CZONE_KERNEL"],
        initrd=initrd(), disks=[f"ro:{image}/rootfs.img"], boot_bytes=128 * MIB,
        pool_bytes=128 * MIB, wait=False)
    embedded().lookupByName(name).suspend()
    return vm


@functools.lru_cache
def embedded():
    """One connection for all: each registers the driver anew, and libvirt has room for few."""
    return libvirt.open(f"qemu:///embed?root={support.STATE.name}/libvirt")


def reclaims(vms, runs):
    """Milliseconds of one reclaim after another."""
    took = []
    for run in range(runs):
        for m, c in vms:
            before = c.zone.stats()
            assert c.verify() > 0
            start = time.monotonic()
            m.vm.stats()
            c.zone.reclaim()
            took.append((time.monotonic() - start) * 1000)
            assert c.zone.stats().free_backed <= max(MIB, before.free_backed)
    return took


def main():
    bench = Bench(__doc__, (["--vms"], dict(type=int, default=32, help="in all")),
                  runs=10, quick_runs=3)
    known = conditions()
    with MicroVM(pool=1 << 30, vcpus=1, boot_bytes=128 * MIB) as a, \
            MicroVM(pool=1 << 30, vcpus=1, boot_bytes=128 * MIB) as b:
        running = []
        for i, m in enumerate((a, b)):
            c = Container(m, "c", 64 * MIB).workload(anon=32, free=50, seed=i)
            c.wait("ready")
            c.idle()
            running.append((m, c))
        alone = reclaims(running, bench.runs)
        paused, fds = [], len(os.listdir("/proc/self/fd"))
        try:
            for i in range(bench.args.vms - 2):
                bench.say(f"VM {i + 3} of {bench.args.vms}")
                paused.append(start_paused(i))
            attached = sum(vm.stats().pid > 0 for vm in (a.vm, b.vm))
            # a paused one has no guest that could answer, and says so at once
            for vm in paused:
                try:
                    vm.stats()
                except czone.Error as e:
                    attached += "driver is not there" in str(e)
            bench.add("many_vms_attached", [attached], "count", (">=", bench.args.vms), **known)
            bench.add("many_vms_fds", [len(os.listdir("/proc/self/fd")) - fds], "count", **known)
            together = reclaims(running, bench.runs)
            bench.add("many_vms_reclaim_alone_ms", alone, "ms", **known)
            bench.add("many_vms_reclaim_ms", together, "ms", **known)
            bench.add("many_vms_reclaim_over_alone", (together, alone), "ratio", **known)
        finally:
            for vm in paused:
                vm.close()
    bench.end()


if __name__ == "__main__":
    main()
