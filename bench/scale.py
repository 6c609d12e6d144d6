#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""How it scales: zones in a VM, VMs in a process, and what the memory map costs.

Beside 1 to 512 zones, the guest instructions of one more create and destroy (4 MiB), and the host
memory that an empty zone costs: cgroup, kernel objects, and its part of the memory map. For
zones of 64 MiB to 4 GiB, the memory map (struct page) per byte of zone. For 1 to 8 VMs in
one process, the process's own memory per VM and the clock for a create and destroy (under TCG the guest's
part is emulated).
"""
import contextlib
import time

from function_vm import Rollup
from measure import MIB, Bench, conditions
from microvm import MicroVM
from vms import CountedVM, counts, insn

SIZES = 64, 256, 1024, 4096     # MiB


def numbers_of(text):
    return sorted({int(n) for n in text.split(",")})


def own_memory():
    """Bytes that this process has for itself."""
    with open("/proc/self/smaps_rollup", encoding="ascii") as f:
        return sum(int(line.split()[1]) for line in f if line.startswith("Private_")) << 10


def memory(m):
    stats = m.vm.stats()
    return stats.host_boot + stats.host_pool


def zones(bench, known, numbers):
    with CountedVM(pool=8 << 30) as m:
        insn(m.guest, "create 4 2")     # everything that is made once is there
        m.settle()
        empty, made = memory(m), 0
        for n in numbers:
            if n > made:
                insn(m.guest, f"zones {n - made} {made}" if made else f"zones {n}")
                made = n
            time.sleep(1.5)
            where = dict(known, zones=n)
            bench.add(f"scale_zone_bytes_{n}", [(memory(m) - empty) / n], "bytes", **where)
            lines = insn(m.guest, f"create 4 {bench.runs}")
            bench.add(f"scale_create_insn_{n}", counts(lines, "again"), "insn", **where)
            lines = insn(m.guest, f"destroy 4 {bench.runs} 100")
            bench.add(f"scale_destroy_insn_{n}", counts(lines, "destroy"), "insn", **where)
        bench.add("scale_512_over_1" if made == 512 else f"scale_{made}_over_1",
                  [bench.results[-2]["value"] / bench.results[1]["value"]], "ratio", **known)
        first = m.vm.stats().metadata
        for mib in SIZES:
            zone = m.vm.create(mib * MIB)
            map_ = m.vm.stats().metadata - first
            bench.add(f"scale_memmap_share_{mib}mib", [map_ / (mib * MIB)], "share", **known)
            zone.destroy()
            m.settle()


def vms(bench, known, numbers):
    with contextlib.ExitStack() as stack:
        start, machines = own_memory(), []
        for n in numbers:
            while len(machines) < n:
                bench.say(f"VM {len(machines) + 1} of {numbers[-1]}")
                machines.append(stack.enter_context(MicroVM(pool=2 << 30)))
            where = dict(known, vms=n)
            bench.add(f"scale_process_bytes_per_vm_{n}", [(own_memory() - start) / n], "bytes", **where)
            bench.add(f"scale_vmm_bytes_per_vm_{n}",
                      [Rollup.of(*(m.vm.stats().pid for m in machines)).total / n], "bytes", **where)
            times = []
            for _ in range(3):
                for m in machines:
                    begin = time.monotonic()
                    m.vm.create(64 * MIB).destroy()
                    times.append((time.monotonic() - begin) * 1e3)
            bench.add(f"scale_create_destroy_clock_ms_{n}", times, "ms", **where)


def main():
    bench = Bench(__doc__, (["--zones"], dict(type=numbers_of, metavar="N,N...")),
                  (["--vms"], dict(type=numbers_of, metavar="N,N...")), runs=3, quick_runs=1)
    known, quick = conditions(), bench.args.quick
    zones(bench, known, bench.args.zones or ([1, 16, 128] if quick else
                                              [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]))
    vms(bench, known, bench.args.vms or ([1, 2] if quick else [1, 2, 4, 8]))
    bench.end()


if __name__ == "__main__":
    main()
