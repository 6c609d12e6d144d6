#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Every way to give a guest's memory back, side by side.

A process dirties memory, page by page, and exits. Then:
  destroy     its zone is destroyed            reclaim    its zone stays, and is reclaimed
  balloon     virtio-balloon is inflated       reporting  free page reporting does it by itself
  virtio_mem  requested-size goes down
(Free page hinting only spares a migration stream: it returns nothing to the host. The guest
kernel has no ACPI memory hotplug, by which a DIMM could be unplugged.)

In three states of the guest: clean; interleaved, where a process that lives on holds every
eighth page between those that were freed (with zones: holds as much, in its own); and loaded,
with 8 neighbours that touch and free memory all the time. All with the same kernel and QEMU, one vCPU,
memfd.

`_insn` is what the guest executes meanwhile, less what it would have anyway; with busy
neighbours that cannot be told apart, so it stands for clean and interleaved only. `_ms` is the
clock until the memory has come back, under TCG too long for the guest's part; `_guest_ms` the
guest's own time for it at an instruction per ns, the wait for the host included; `_host_ms` the system
time that QEMU and this process spend. `_share` is how much came back, of what was dirtied.
`return_punch_..._ms` is the bare fallocate(PUNCH_HOLE) of as much: the physical limit.
"""
import os
import sys
import time

from measure import MIB, Bench, conditions, median
from return_speed import bare_punch
from vms import BOOT, LIMIT_S, CountedVM, PlainVM, insn

FAILED = []         # ways, at a size
NEIGHBOURS = 8
BUSY_MIB = 8
EVERY = 8
LARGE = 1024 * MIB  # once, and not interleaved, what is more: it takes a minute to dirty
STATES = "clean", "interleaved", "loaded"
ONLINE = "memhp_default_state=online_movable"
BUSY = ("while :; do dd if=/dev/zero of=/run/busy{i} bs=64k count={n} 2>/dev/null; "
        "cat /run/busy{i} >/dev/null; rm /run/busy{i}; sleep 0.05; done")


def system_time(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return int(f.read().rsplit(")", 1)[1].split()[12]) / os.sysconf("SC_CLK_TCK")


class NotRestored(Exception):
    """A way that has returned memory does not come to where it began: no other run is possible."""


class Method:
    """One way, in a VM of its own."""
    vm_options = {}

    def __init__(self, size):
        self.size = size

    def wait(self, done, limit=LIMIT_S):
        end = time.monotonic() + limit
        while not done():
            if time.monotonic() > end:
                return False
            time.sleep(0.002)
        return True

    def dirty(self):
        """The dead process; page tables of its own are not counted: they come from elsewhere."""
        insn(self.vm.guest, f"dirty {self.size // MIB}")

    def keeper(self):
        """(line) a process that lives on, with every eighth page of what was free."""
        return f"keep {(self.size * EVERY // (EVERY - 1)) // MIB} {EVERY}"

    def prepare(self):
        pass

    def restore(self):
        pass

    def resident(self):
        return self.vm.resident()

    def pid(self):
        return self.vm.qemu.pid


class Destroy(Method):
    name = "destroy"

    def open(self):
        return CountedVM(pool=16 << 30, **self.vm_options)

    def pid(self):
        return self.vm.vm.stats().pid

    def resident(self):
        return self.vm.vm.stats().host_pool

    def keeper(self):
        return f"keep {self.size // EVERY // MIB} 0"

    def prepare(self):
        for group in "insn", "keep":
            self.vm.guest.run(f"mkdir -p /sys/fs/cgroup/c/{group}")
        self.kept = self.vm.vm.create(self.size // EVERY + 16 * MIB, cgroup="/c/keep")
        self.zone = self.vm.vm.create(self.size + 16 * MIB, cgroup="/c/insn")

    def act(self):
        self.zone.destroy(timeout=LIMIT_S)

    def restore(self):
        self.kept.destroy()
        self.vm.settle()


class Reclaim(Destroy):
    """The zone stays: for the container's next process, or for what the last one left."""
    name = "reclaim"

    def act(self):
        self.zone.reclaim(timeout=LIMIT_S)

    def restore(self):
        self.zone.destroy()
        super().restore()


class Balloon(Method):
    name = "balloon"
    device = "virtio-balloon-pci"

    def memory(self):
        return BOOT + -(-self.size * EVERY // (EVERY - 1) // MIB) * MIB + 64 * MIB

    def open(self):
        return PlainVM("-device", self.device, memory=self.memory(), **self.vm_options)

    def act(self):
        goal = self.memory() - self.size
        self.vm.qmp("balloon", value=goal)
        self.wait(lambda: self.vm.qmp("query-balloon")["actual"] <= goal, 60)

    def restore(self):
        self.vm.qmp("balloon", value=self.memory())
        self.wait(lambda: self.vm.qmp("query-balloon")["actual"] == self.memory())


class Reporting(Balloon):
    name = "reporting"
    device = "virtio-balloon-pci,free-page-reporting=on"

    def act(self):
        before, last, since = self.before, self.resident(), time.monotonic()
        end = since + 120
        # it begins 2 s after memory was freed and goes on in rounds; the end is when no more comes
        while time.monotonic() < end and before - last < 0.999 * self.size:
            time.sleep(0.01)
            now = self.resident()
            if now < last:
                last, since = now, time.monotonic()
            elif time.monotonic() > since + 6:
                break
        self.late = time.monotonic() - since

    def restore(self):
        pass


class VirtioMem(Method):
    name = "virtio_mem"

    def plugged_size(self):
        block = 128 * MIB
        return -(-(self.size * EVERY // (EVERY - 1) + 16 * MIB) // block) * block

    def open(self):
        size = self.plugged_size()
        return PlainVM("-object", f"memory-backend-memfd,id=vmem,share=on,reserve=off,size={size}",
                       "-device", f"virtio-mem-pci,id=vm0,memdev=vmem,requested-size={size}",
                       cmdline=ONLINE, **self.vm_options)

    def plugged(self):
        return self.vm.qmp("query-memory-devices")[0]["data"]["size"]

    def request(self, size):
        self.vm.qmp("qom-set", path="/machine/peripheral/vm0", property="requested-size",
                    value=size)

    def dirty(self):
        # boot memory is as free as the device's, and part of it goes first
        insn(self.vm.guest, f"dirty {(self.size + BOOT // 4) // MIB}")

    def act(self):
        goal = self.plugged_size() - self.size // (4 * MIB) * (4 * MIB)
        self.request(goal)
        # in 4 MiB blocks; what cannot be unplugged the driver retries for ever
        last, since = self.plugged(), time.monotonic()
        while last > goal and time.monotonic() < since + 5:
            time.sleep(0.002)
            now = self.plugged()
            if now < last:
                last, since = now, time.monotonic()
        self.late = time.monotonic() - since if last > goal else 0

    def restore(self):
        self.request(self.plugged_size())
        if not self.wait(lambda: self.plugged() == self.plugged_size(), 120):
            raise NotRestored(f"after 120 s {self.plugged() // MIB} MiB are plugged again, "
                              f"of {self.plugged_size() // MIB}")


METHODS = [Destroy, Reclaim, Balloon, Reporting, VirtioMem]


def once(method, state):
    """({what: value} of one return, why there can be no other in this VM or None)"""
    m, guest = method, method.vm.guest
    m.late = 0
    m.prepare()
    keeper = insn(guest, m.keeper())[0][1]["pid"] if state == "interleaved" else None
    m.dirty()
    before = m.before = m.resident()
    system, own = system_time(m.pid()), time.process_time()
    executed, ns, seconds = m.vm.span(m.act)
    result = {"ms": (seconds - m.late) * 1e3, "insn": executed, "guest_ms": ns / 1e6,
              "host_ms": (system_time(m.pid()) - system + time.process_time() - own) * 1e3,
              "share": min(1.0, (before - m.resident()) / m.size)}
    if state == "loaded":
        del result["insn"]
    if keeper:
        guest.run(f"kill -9 {keeper}; sleep 0.2")
    try:
        m.restore()
    except NotRestored as e:
        return result, str(e)
    return result, None


def neighbours(guest):
    for i in range(NEIGHBOURS):
        loop = BUSY.format(i=i, n=BUSY_MIB * 16)
        guest.run(f"mkdir -p /sys/fs/cgroup/c/n{i}; (echo 0 >/sys/fs/cgroup/c/n{i}/cgroup.procs; "
                  f"exec sh -c '{loop}') </dev/null >/dev/null 2>&1 &")


def measure(bench, kind, size, states):
    """{state: [result of each run]}, and of a way that fails those until then, with what failed."""
    method = kind(size)
    rows = {}
    try:
        with method.open() as method.vm:
            method.vm.measure_idle()
            for state in states:
                if size > LARGE and state == "interleaved" and not bench.args.state:
                    continue
                if state == "loaded":
                    neighbours(method.vm.guest)
                why = None
                for _ in range(bench.runs if size <= LARGE else 1):
                    row, why = once(method, state)
                    rows.setdefault(state, []).append(row)
                    if why:
                        break
                last = rows[state][-1]
                bench.say(f"{method.name}, {size // MIB} MiB, {state}: {last['ms']:.0f} ms, "
                          f"{100 * last['share']:.1f} % returned")
                if why:
                    raise NotRestored(f"{state}: {why}")
    except Exception as e:      # pylint: disable=broad-except
        bench.say(f"{method.name}, {size // MIB} MiB: {type(e).__name__}: {e}")
        FAILED.append(f"{method.name} with {size // MIB} MiB")
    return rows


def sizes_of(text):
    return [int(n) for n in text.split(",")]


def main():
    bench = Bench(__doc__, (["--mib"], dict(type=sizes_of, metavar="MIB,MIB...")),
                  (["--method"], dict(action="append", choices=[m.name for m in METHODS])),
                  (["--state"], dict(action="append", choices=STATES)), runs=2, quick_runs=1)
    known = conditions()
    sizes = bench.args.mib or ([256] if bench.args.quick else [128, 1024, 4096])
    states = bench.args.state or STATES
    methods = [m for m in METHODS if not bench.args.method or m.name in bench.args.method]
    shares = []
    for size in sizes:
        punch = [bare_punch(size * MIB, None) for _ in range(3)]
        bench.add(f"return_punch_{size}mib_ms", [s * 1e3 for s in punch], "ms", **known)
        found = {m.name: measure(bench, m, size * MIB, states) for m in methods}
        for state in states:
            where = dict(known, mib=size, state=state)
            measured = {name: by_state[state] for name, by_state in found.items() if state in by_state}
            for name, rows in measured.items():
                for key in rows[0]:
                    unit = {"insn": "insn", "share": "share"}.get(key, "ms")
                    goal = (">=", 0.995) if key == "share" and name in ("destroy", "reclaim") else None
                    bench.add(f"return_{name}_{size}mib_{state}_{key}",
                              [row[key] for row in rows], unit, goal, **where, method=name)
            shares += [row["share"] for n in ("destroy", "reclaim") if n in measured
                       for row in measured[n]]
            others = [n for n in measured if n not in ("destroy", "reclaim")]
            if "destroy" not in measured or not others:
                continue
            for key in "ms", "insn":
                if key not in measured["destroy"][0]:
                    continue
                # of what came back: giving up early is no speed
                cost = {n: [row[key] / max(row["share"], 0.01) for row in rows]
                        for n, rows in measured.items()}
                # reporting goes in steps over seconds: too little to be told from an idle guest's work
                enough = [n for n in others if median([r["share"] for r in measured[n]]) >= 0.5
                          and not (key == "insn" and n == "reporting") and median(cost[n]) > 0]
                if not enough:
                    continue
                best = min(enough, key=lambda n: median(cost[n]))   # pylint: disable=cell-var-from-loop
                bench.add(f"return_destroy_{size}mib_{state}_{key}_over_best",
                          (cost["destroy"], cost[best]), "ratio", ("<=", 1), **where, best=best)
    if shares:
        bench.add("return_share_min", shares, "share", (">=", 0.995), **known)
        bench.results[-1]["value"] = min(shares)
    bench.end()
    if FAILED:
        sys.exit("failed: " + ", ".join(FAILED))


if __name__ == "__main__":
    main()
