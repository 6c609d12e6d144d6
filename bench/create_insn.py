#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guest instructions to make a zone of 512 MiB and attach a cgroup to it.

Against virtio-mem plugging as much, in a VM with the same kernel, QEMU and boot memory.
"first": the guest has never used this memory; otherwise it has, and has given it back.
"""
from measure import MIB, Bench, conditions
from vms import CountedVM, PlainVM, counts, insn

SIZE = 512 * MIB
WINDOW_MS = 5000
ONLINE = "memhp_default_state=online_movable"


def zones(bench, others):
    with CountedVM(pool=8 << 30) as m:
        if others:
            insn(m.guest, f"zones {others}")
        lines = insn(m.guest, f"create {SIZE // MIB} {bench.runs}")
    return {turn: counts(lines, turn) for turn in ("first", "again")}


def virtio_mem(bench):
    """As many devices as there are runs: memory is used for the first time once."""
    def plug(i, size):
        m.qmp("qom-set", path=f"/machine/peripheral/vm{i}", property="requested-size", value=size)

    def plugged(i):
        return m.qmp("query-memory-devices")[i]["data"]["size"]

    devices = []
    for i in range(bench.runs):
        devices += ["-object", f"memory-backend-memfd,id=m{i},share=on,reserve=off,size={SIZE}",
                    "-device", f"virtio-mem-pci,id=vm{i},memdev=m{i}"]
    net = {}
    with PlainVM(*devices, cmdline=ONLINE) as m:
        idle = m.window(WINDOW_MS)
        for turn in "first", "again":
            net[turn] = [m.window(WINDOW_MS, lambda: plug(i, SIZE), lambda: plugged(i) == SIZE)
                         - idle for i in range(bench.runs)]
            for i in range(bench.runs):
                m.window(WINDOW_MS, lambda: plug(i, 0), lambda: plugged(i) == 0)
    return net


def main():
    bench = Bench(__doc__, runs=3, quick_runs=1)
    known = conditions()
    bench.say("virtio-mem, 512 MiB")
    theirs = virtio_mem(bench)
    names = {"first": "create_512mib_first_insn", "again": "create_512mib_insn"}
    goals = {"first": 1 / 3, "again": 1 / 300}
    for turn, name in names.items():
        bench.add(name + "_virtio_mem", theirs[turn], "insn", **known)
    alone = None
    for others, suffix in (0, ""), (511, "_512_zones"):
        bench.say(f"zones of 512 MiB, beside {others} others")
        ours = zones(bench, others)
        known["zones"] = others + 1
        for turn, name in names.items():
            bench.add(name + suffix, ours[turn], "insn", **known)
            bench.add(name + "_over_virtio_mem" + suffix, (ours[turn], theirs[turn]), "ratio",
                      ("<=", goals[turn]), **known)
            if alone:
                bench.add(name + "_512_zones_over_1", (ours[turn], alone[turn]), "ratio",
                          ("<=", 1.1), **known)
        alone = ours
    bench.end()


if __name__ == "__main__":
    main()
