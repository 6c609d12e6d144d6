#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guest instructions to give back 1 GiB that a dead process had dirtied.

The destroy of a zone against virtio-mem (requested-size down to 0) and against
virtio-balloon (inflated by as much), in VMs with the same kernel, QEMU and boot memory. Of
each, all that the guest executes from the process's end until it is quiet again, less
what an idle guest executes in the same time.
"""
from measure import MIB, Bench, conditions
from vms import BOOT, CountedVM, PlainVM, counts, insn

SIZE = 1024 * MIB
QUIET_MS = 2000         # after a destroy; the memory map goes back after 1000
WINDOW_MS = 10000       # for what the host asks a guest to do
VIRTIO_MEM = ["-object", f"memory-backend-memfd,id=vmem,share=on,reserve=off,size={SIZE}",
              "-device", f"virtio-mem-pci,id=vm0,memdev=vmem,requested-size={SIZE}"]
ONLINE = "memhp_default_state=online_movable"


def dirty(guest):
    """A process touches all of it and a bit, in pages of 4 KiB, and exits."""
    insn(guest, f"dirty {(SIZE + BOOT // 4) // MIB}")


def zone(bench, others):
    """Instructions and bytes returned of each destroy."""
    with CountedVM(pool=8 << 30) as m:
        if others:
            insn(m.guest, f"zones {others}")
        lines = insn(m.guest, f"destroy {SIZE // MIB} {bench.runs} {QUIET_MS}")
    net = [a - b for a, b in zip(counts(lines, "destroy", "window_insn"),
                                 counts(lines, "background"))]
    return net, counts(lines, "destroy"), counts(lines, "destroy", "returned")


def plug(m, size):
    m.qmp("qom-set", path="/machine/peripheral/vm0", property="requested-size", value=size)


def plugged(m):
    return m.qmp("query-memory-devices")[0]["data"]["size"]


def virtio_mem(bench):
    net, returned = [], []
    with PlainVM(*VIRTIO_MEM, cmdline=ONLINE) as m:
        idle = m.window(WINDOW_MS)
        for _ in range(bench.runs):
            if plugged(m) != SIZE:
                m.window(WINDOW_MS, lambda: plug(m, SIZE), lambda: plugged(m) == SIZE)
            dirty(m.guest)
            before = m.resident()
            net.append(m.window(WINDOW_MS, lambda: plug(m, 0), lambda: plugged(m) == 0) - idle)
            returned.append(before - m.resident())
    return net, returned


def balloon(bench):
    def actual():
        return m.qmp("query-balloon")["actual"]

    net, returned, memory = [], [], BOOT + SIZE
    with PlainVM("-device", "virtio-balloon-pci", memory=memory) as m:
        idle = m.window(WINDOW_MS)
        for _ in range(bench.runs):
            dirty(m.guest)
            before = m.resident()
            net.append(m.window(WINDOW_MS, lambda: m.qmp("balloon", value=memory - SIZE),
                                lambda: actual() == memory - SIZE) - idle)
            returned.append(before - m.resident())
            m.window(WINDOW_MS, lambda: m.qmp("balloon", value=memory),
                     lambda: actual() == memory)
    return net, returned


def main():
    bench = Bench(__doc__, runs=3, quick_runs=1)
    known = conditions()
    bench.say("virtio-mem, 1 GiB")
    mem, returned = virtio_mem(bench)
    bench.add("destroy_1gib_insn_virtio_mem", mem, "insn", **known)
    bench.add("destroy_1gib_returned_virtio_mem", returned, "bytes", **known)
    bench.say("virtio-balloon, 1 GiB")
    inflate, returned = balloon(bench)
    bench.add("destroy_1gib_insn_balloon", inflate, "insn", **known)
    bench.add("destroy_1gib_returned_balloon", returned, "bytes", **known)
    for others, suffix in (0, ""), (511, "_512_zones"):
        bench.say(f"zones of 1 GiB, beside {others} others")
        net, call, returned = zone(bench, others)
        known["zones"] = others + 1
        bench.add("destroy_1gib_insn" + suffix, net, "insn", **known)
        bench.add("destroy_1gib_insn_call" + suffix, call, "insn", **known)
        bench.add("destroy_1gib_returned" + suffix, returned, "bytes", (">=", SIZE), **known)
        bench.add("destroy_1gib_insn_over_virtio_mem" + suffix, (net, mem), "ratio",
                  ("<=", 1 / 300), **known)
        bench.add("destroy_1gib_insn_over_balloon" + suffix, (net, inflate), "ratio",
                  ("<=", 1 / 1000), **known)
        if others:
            bench.add("destroy_1gib_insn_512_zones_over_1", (net, alone), "ratio",
                      ("<=", 1.1), **known)
        alone = net
    bench.end()


if __name__ == "__main__":
    main()
