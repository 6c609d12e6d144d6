# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many zones come and go, and nothing stays behind."""
import time

from microvm import MIB, Container


def free(microvm):
    """Free memory outside zones, caches dropped: what a leak in the guest would eat.

    The kernel frees namespaces and cgroups in the background: the best of some seconds.
    """
    best, end = 0, time.monotonic() + 4
    while time.monotonic() < end:
        microvm.guest.run("sync; echo 3 > /proc/sys/vm/drop_caches; sleep 0.5")
        best = max(best, microvm.vm.stats().boot_free)
    return best


def rounds(microvm, n, first):
    vm, ids = microvm.vm, set()
    for i in range(n):
        zone = vm.create((1 + (first + i) % 16) * 4 * MIB)
        zone.attach_cgroup("/c/leak")
        ids.add(zone.id)
        zone.destroy()
    return ids


def test_create_attach_destroy_1000_times(microvm):
    vm = microvm.vm
    microvm.guest.run("container create leak")
    rounds(microvm, 50, 0)      # what is made once and kept, is made now
    frees, host_before, ids = [free(microvm)], microvm.pool(), set()
    for batch in range(4):
        ids |= rounds(microvm, 250, batch * 250)
        frees.append(free(microvm))
        print(microvm.guest.run("grep -E '^(MemFree|Slab|Percpu|PageTables|KernelStack)' /proc/meminfo"))
    lost, host_after = [a - b for a, b in zip(frees, frees[1:])], microvm.pool(at_most=host_before)
    print(f"guest free {frees}, lost {lost}, host {host_before} -> {host_after}, "
          f"{len(ids)} ids used, highest {max(ids)}")
    assert list(vm.zones()) == []
    assert min(lost) <= 64 << 10
    assert host_after <= host_before
    assert max(ids) <= 1024
    assert vm.stats().pool_used == 0 and vm.stats().zones == 0
    microvm.guest.run("container remove leak")


def test_whole_containers_160_times(microvm):
    """What leaks is lost with every batch; what the kernel keeps for next time, once."""
    def one(i):
        c = Container(microvm, f"round{i}", 16 * MIB).workload(anon=2, shm=1, file=1, seed=i)
        c.wait("ready")
        c.stop()
        c.remove()
        c.zone.destroy()

    for i in range(10):
        one(i)
    frees, host_before = [free(microvm)], microvm.pool()
    for batch in range(4):
        for i in range(40):
            one(batch * 40 + i)
        frees.append(free(microvm))
        print(microvm.guest.run("grep -E '^(MemFree|Slab|Percpu|PageTables|KernelStack)' /proc/meminfo"))
    lost = [a - b for a, b in zip(frees, frees[1:])]
    print(f"guest free {frees}, lost {lost}, host {host_before} -> {microvm.pool()}")
    assert min(lost) <= 256 << 10
    assert microvm.pool(at_most=host_before) <= host_before


def test_512_zones_at_once(microvm):
    zones = [microvm.vm.create(4 * MIB) for _ in range(512)]
    assert len({z.id for z in zones}) == 512
    starts = sorted(r.start for z in zones for r in z.ranges())
    assert len(starts) == 512 and all(b - a >= 4 * MIB for a, b in zip(starts, starts[1:]))
    assert len(list(microvm.vm.zones())) == 512
    for z in zones:
        z.destroy()
    assert microvm.vm.stats().pool_used == 0
