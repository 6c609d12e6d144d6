#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""What other functions notice while 1 GiB is given back, and what it costs to use it again.

8 functions in zones of their own get a request each every 10 ms (guest/neighbours.c), which
keeps the only vCPU about half busy, while a dead container's zone of 1 GiB is destroyed; or, in VMs
without zones, virtio-mem or the balloon gives back as much. Latency from when a request was
due, by the guest's clock: an instruction is 1 ns, and idle time is skipped, so the host's load
does not change it. `neighbour_p99_ratio` is the 99th percentile of all requests that came between the
beginning and the end of the destroys, over that of as many in undisturbed windows.

`refill_..._insn` is a page fault on memory that was given back, over one on memory that
was not; `refill_host_us` is the host's system time for each page of 4 KiB that it supplies anew.
"""
import statistics
from concurrent import futures

from measure import MIB, Bench, conditions, median
from return_methods import Balloon, Destroy, VirtioMem, system_time
from vms import JUMPING, LIMIT_S, STOP_PORT, insn

NEIGHBOURS = 8
METHODS = {"destroy": Destroy, "virtio_mem": VirtioMem, "balloon": Balloon}


def percentile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def latencies(text):
    return [[int(v) for v in line.split("took")[1].split()] for line in text.splitlines()
            if line.startswith("round")]


def windows(method, runs):
    """Latencies: ([undisturbed], [while memory is given back]), a list of each window."""
    m, vm = method, method.vm
    vm.open_stopper()
    vm.stopper.settimeout(LIMIT_S)
    quiet, busy = [], []
    for group in range(NEIGHBOURS):
        vm.guest.run(f"mkdir -p /sys/fs/cgroup/c/nb{group}")
        if isinstance(method, Destroy):
            vm.vm.create(16 * MIB, cgroup=f"/c/nb{group}")
    for _ in range(runs):
        m.late = 0
        m.prepare()
        m.dirty()
        m.before = m.resident()
        with futures.ThreadPoolExecutor(1) as pool:
            # a window without, one with, one without
            counted = pool.submit(vm.guest.run, f"neighbours {NEIGHBOURS} {STOP_PORT} 3", LIMIT_S)
            for what in "quiet", "act", "quiet":
                vm.stopper.sendall(b"x")
                vm.stopper.recv(1)
                if what == "act":
                    m.act()
                vm.stopper.sendall(b"x")
                vm.stopper.recv(1)
            rounds = latencies(counted.result())
        quiet += [rounds[0], rounds[2]]
        busy.append(rounds[1])
        if m.before - m.resident() < 0.9 * m.size and isinstance(method, Destroy):
            raise RuntimeError("the destroy returned too little: this shows nothing")
        m.restore()
    return quiet, busy


def add(bench, known, name, method):
    method.vm_options = {"icount": JUMPING}
    with method.open() as method.vm:
        quiet, busy = windows(method, bench.runs)
    before = [v for w in quiet for v in w]
    during = [v for w in busy for v in w]
    suffix = "" if name == "destroy" else f"_{name}"
    known = dict(known, requests=len(during), neighbours=NEIGHBOURS)
    for what, values in ("undisturbed", before), ("disturbed", during):
        bench.add(f"neighbour_p50_{what}{suffix}", [percentile(values, 0.5) / 1e3], "us", **known)
        bench.add(f"neighbour_p99_{what}{suffix}", [percentile(values, 0.99) / 1e3], "us", **known)
        bench.add(f"neighbour_max_{what}{suffix}", [max(values) / 1e3], "us", **known)
    bench.add(f"neighbour_mean_ratio{suffix}", [statistics.mean(during) / statistics.mean(before)],
              "ratio", **known)
    return percentile(during, 0.99) / percentile(before, 0.99), known


def refill(bench, known):
    """Touch memory that was reclaimed, and memory that was not."""
    size = 256 * MIB
    method = Destroy(size)
    with method.open() as method.vm:
        vm, pages = method.vm, size // 4096
        vm.guest.run("mkdir -p /sys/fs/cgroup/c/insn")
        rows = {"kept": [], "returned": []}
        host = {"kept": [], "returned": []}
        zone = vm.vm.create(size + 32 * MIB, cgroup="/c/insn")
        insn(vm.guest, f"dirty {size // MIB}")
        for _ in range(bench.runs):
            for what in rows:
                if what == "returned":
                    zone.reclaim(timeout=LIMIT_S)
                system = system_time(method.pid())
                line = insn(vm.guest, f"fault {size // MIB} 1")[0][1]
                rows[what].append(line["insn"] / line["faults"])
                host[what].append(1e6 * (system_time(method.pid()) - system) / pages)
        for what, values in rows.items():
            bench.add(f"refill_{what}_insn", values, "insn", **known)
        bench.add("refill_insn_ratio", (rows["returned"], rows["kept"]), "ratio", **known)
        bench.add("refill_host_us", [a - median(host["kept"]) for a in host["returned"]], "us",
                  **known)


def main():
    bench = Bench(__doc__, (["--mib"], dict(type=int, default=1024)),
                  (["--method"], dict(action="append", choices=list(METHODS))), runs=3, quick_runs=2)
    known = conditions()
    size, ratios = bench.args.mib * MIB, {}
    for name in bench.args.method or METHODS:
        kind = METHODS[name]
        bench.say(f"{name}, {bench.args.mib} MiB")
        ratios[name] = add(bench, known, name, kind(size))
    if not bench.args.method:
        refill(bench, known)
    for name, (ratio, where) in ratios.items():
        if name == "destroy":
            bench.add("neighbour_p99_ratio", [ratio], "ratio", ("<=", 1.05), **where)
        else:
            bench.add(f"neighbour_p99_ratio_{name}", [ratio], "ratio", **where)
    bench.end()


if __name__ == "__main__":
    main()
