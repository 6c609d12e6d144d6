#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guest instructions of a page fault of 4 KiB on anonymous memory.

Our kernel against Debian's with the same configuration, which script/build-kernel
--unpatched makes: with no region (all hooks are no-ops), with a region but no zone, in a
zone whose memory was used before, and in a zone whose memory the host does not back yet.
The fault only, not the exit; clearing the page is in it (4,096 instructions as QEMU
counts `rep stosb`).
"""
import os

from measure import MIB, Bench, conditions, median
from vms import CountedVM, PlainVM, insn

SIZE = 64 * MIB


def per_fault(lines, word):
    return [values["insn"] / values["faults"] for first, values in lines if first == word]


def overhead(ours, theirs):
    base = median(theirs)
    return [value / base - 1 for value in ours]


def plain(bench, kernel):
    with PlainVM(kernel=kernel) as m:
        insn(m.guest, f"fault {SIZE // MIB} 1")     # once the page allocator has settled
        return per_fault(insn(m.guest, f"fault {SIZE // MIB} {bench.runs}"), "again")


def main():
    bench = Bench(__doc__, runs=5, quick_runs=2)
    known = conditions()
    bench.say("Debian's kernel")
    theirs = plain(bench, os.environ["CZONE_UNPATCHED_KERNEL"])
    bench.add("fault_insn_unpatched", theirs, "insn", **known)
    ours = {}

    def add(where, values):
        ours[where] = values
        bench.add("fault_insn_" + where, values, "insn", **known)
        if where.startswith("first_touch"):
            bench.add(where.replace("first_touch", "fault_insn_first_touch_ratio"),
                      (values, theirs), "ratio", ("<=", 0.6), **known)
        else:
            limit = 0.015 if where.startswith("in_zone") else 0.001
            bench.add("fault_insn_overhead_" + where, overhead(values, theirs), "ratio",
                      ("<=", limit), **known)

    bench.say("our kernel without a region")
    add("no_region", plain(bench, None))
    for others, suffix in (0, ""), (511, "_512_zones"):
        bench.say(f"our kernel with a region and {others} other zones")
        with CountedVM(pool=8 << 30) as m:
            if others:
                insn(m.guest, f"zones {others}")
            insn(m.guest, f"fault {SIZE // MIB} 1")
            lines = insn(m.guest, f"fault {SIZE // MIB} {bench.runs}")
            add("no_zone" + suffix, per_fault(lines, "again"))
            lines = insn(m.guest, f"fault {SIZE // MIB} {bench.runs} zone")
            add("in_zone" + suffix, per_fault(lines, "again"))
            add("first_touch" + suffix, per_fault(lines, "first"))
    for where in "no_zone", "in_zone", "first_touch":
        bench.add(f"fault_insn_{where}_512_zones_over_1",
                  (ours[where + "_512_zones"], ours[where]), "ratio", ("<=", 1.1), **known)
    bench.end()


if __name__ == "__main__":
    main()
