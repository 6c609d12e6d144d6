#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""One container per VM against many: how soon a container runs, and what it costs the host.

Three ways to start a function's container (Debian's Python 3, started by crun):
  cold      a microVM of its own, booted
  template  a microVM of its own, restored from a template (see template.py)
  czone     a new zone, plugged on demand, and the container, in a VM that runs already
for 1 to 32 containers that live at the same time.

Latency, from the request to the container's first own instruction. The host's work is timed: for a
microVM from the start of QEMU until the guest runs, the least of several, for load only adds; for
a zone it is the CPU time of the library's process, since the clock would have the emulated guest
in it. The guest's work is counted in instructions (-icount) and converted at the rate that the
same crun, image and bundle reach natively here (native.py): `startup_rate`. `_cpu` takes CPU time
for the microVM's host work, too. `_init` adds interpreter and imports, `_warm`
is a request to a container that waits. `_clock` is what the clock says, which under TCG is
far too long for all that the guest does.

Memory: the PSS of all QEMUs, per container, and of it what is over and above the function's
own (its anonymous memory). The emulator's translated code, which KVM would not have, is left
out on both sides; `_with_emulator` has it. The VM with zones gives back what it does not use
before it is measured, which is what the library is for; `memory_czone_unreclaimed_*` is what it
had until then. `memory_split_*` says where the memory lies.
"""
import json
import subprocess
import sys
import time
import pathlib
import typing

from function_vm import IMAGE_ZONE, Function, Image, Rollup, cpu_seconds, image, prepare
from measure import MIB, Bench, conditions, median
from microvm import MicroVM
from template import MEMORY, Template, cold
from vms import CountedVM, insn

ALONE = 4
CLOCKS = 4          # the clock tells little: at most for as many containers
SLACK = 16 * MIB    # of a zone, over the function's own
FUNCTION = "ballast"
BOOT = 256 * MIB    # outside the pool, of the VM with zones


class Memory(typing.NamedTuple):
    """Of one way, with so many containers."""
    rollup: Rollup
    held: int                   # by the functions
    split: dict = {}            # bytes, by where they lie
    unreclaimed: int = None     # what it was, without the emulator's code, before a reclaim


def native(runs):
    """CPU seconds of the same, natively."""
    script = pathlib.Path(__file__).with_name("native.py")
    done = subprocess.run(["unshare", "--mount", "--pid", "--fork", sys.executable, "-B", script,
                           image(), str(runs)], check=True, stdout=subprocess.PIPE, timeout=300)
    return json.loads(done.stdout)


def guest_alone():
    """Instructions in a microVM that runs nothing else: its boot, and a container's start."""
    with cold() as m:
        boot = insn(m.guest, "boot")[0][1]["insn"]
        prepare(m.guest)
        for name in "first", "second":      # the first one reads the image, as the template's did
            f = Function(m.guest, name, FUNCTION, 10)
            started = f.start()
        return boot, started, f.warm()


def fleet_of_zones(bench, sizes, numbers):
    """The same beside others, in one VM.

    {n: (instructions of the zone, host's CPU seconds, marks, warm)}, {mib: {n: Memory}}
    """
    found, memory, members = {}, {sizes[0]: {}}, []
    with CountedVM(pool=16 << 30, boot=BOOT, rootfs=image()) as m:
        prepare(m.guest)
        shared = Image(m.vm, m.guest).zone
        f = Function(m.guest, "first", FUNCTION, sizes[0])
        zone = m.vm.create(sizes[0] * MIB + SLACK, cgroup=f.cgroup, file_zone=shared)
        f.start()       # reads the image
        f.stop()
        zone.destroy()
        f.remove()
        for n in range(1, max(numbers) + 1):
            f = Function(m.guest, f"f{n}", FUNCTION, sizes[0])
            host = []

            def plug():
                cpu = time.process_time()
                zone = m.vm.create(sizes[0] * MIB + SLACK, cgroup=f.cgroup, file_zone=shared)
                host.append(time.process_time() - cpu)
                members.append((zone, f))

            if n not in numbers:
                plug()
                f.start()
                f.call()
                continue
            m.measure_idle()
            executed = m.span(plug)[0]
            found[n] = executed, host[0], f.start(), f.warm()
            held = sum(f.call()["anonymous"] for _, f in members)
            memory[sizes[0]][n] = memory_of_zones(m, shared, held)
            say_memory(bench, sizes[0], f"{n} in one VM", n, memory[sizes[0]][n])
        for mib in sizes[1:]:
            held = 0
            for zone, f in members:
                zone.resize(mib * MIB + SLACK)
                held += f.call(mib)["anonymous"]
            memory[mib] = {len(members): memory_of_zones(m, shared, held)}
            say_memory(bench, mib, f"{len(members)} in one VM", len(members),
                       memory[mib][len(members)])
    return found, memory


def memory_of_zones(m, image_zone, held):
    pid = m.vm.stats().pid
    before = Rollup.of(pid)
    m.vm.reclaim()
    after, stats = Rollup.of(pid), m.vm.stats()
    in_zones = sum(zone.stats().host_resident for zone in m.vm.zones())
    cache = image_zone.stats().host_resident
    return Memory(after, held, {
        "functions": held, "zones_beyond": in_zones - cache - held, "image_cache": cache,
        "pool_map": stats.host_pool - in_zones, "boot": stats.host_boot,
        "vmm": after.total - after.code - after.guest}, before.total - before.code)


def say_memory(bench, mib, what, n, found):
    total = found.rollup.total - found.rollup.code
    parts = ", ".join(f"{name} {size / MIB:.1f}" for name, size in found.split.items())
    bench.say(f"{mib} MiB, {what}: {total / n / MIB:.1f} MiB each; {parts}")


def fleet_of_clones(bench, sizes, numbers, make):
    """VMs with a container each, which is given more memory when all run.

    {mib: {n: Memory}},
    {n: host's (seconds, CPU seconds)}, {n: seconds by the clock}
    """
    members, hosts, clocks, memory, host = [], [], {}, {sizes[0]: {}}, {}
    try:
        for _ in range(ALONE):      # how long it takes when there is no other
            m, *seconds = make()
            m.__exit__(None)
            hosts.append(seconds)
        alone, hosts = hosts, []
        for n in range(1, max(numbers) + 1):
            begin = time.monotonic()
            m, *seconds = make()
            hosts.append(seconds)
            f = Function(m.guest, "f", FUNCTION, sizes[0])
            members.append((m, f))
            f.start()
            clock = time.monotonic() - begin
            f.call()
            if n in numbers:
                near = hosts[n // 2:n] + (alone if n == 1 else [])
                host[n], clocks[n] = [min(column) for column in zip(*near)], clock
                memory[sizes[0]][n] = total_of(members, sizes[0])
                say_memory(bench, sizes[0], f"{n} microVMs", n, memory[sizes[0]][n])
        for mib in sizes[1:]:
            n = len(members)
            memory[mib] = {n: total_of(members, mib)}
            say_memory(bench, mib, f"{n} microVMs", n, memory[mib][n])
    finally:
        for m, _ in members:
            m.__exit__(None)
    return memory, host, clocks


def total_of(members, mib):
    held = sum(f.call(mib)["anonymous"] for _, f in members)
    found = Rollup.of(*(m.qemu.pid for m, _ in members))
    return Memory(found, held, {"functions": held, "guests_beyond": found.guest - held,
                                "vmm": found.total - found.code - found.guest})


def boot():
    m = cold(counted=False, wait=False)
    seconds, cpu = m.ready - m.started, cpu_seconds(m.qemu.pid)
    m.answer()
    prepare(m.guest)
    return m, seconds, cpu


def clocks_of_zones(mib, numbers):
    """{n: seconds} from the request for a zone until its container is ready, at the clock's speed."""
    found = {}
    with MicroVM(pool=4 << 30, rootfs=image()) as m:
        prepare(m.guest)
        shared = Image(m.vm, m.guest).zone
        for n in range(1, max(numbers) + 1):
            begin = time.monotonic()
            f = Function(m.guest, f"f{n}", FUNCTION, mib)
            m.vm.create(mib * MIB + SLACK, cgroup=f.cgroup, file_zone=shared)
            f.start()
            found[n] = time.monotonic() - begin
    return {n: found[n] for n in numbers}


def add_latency(bench, known, numbers, zones, hosts, clocks):
    rates = native(3 if bench.args.quick else 7)
    boot_insn, alone, warm_alone = guest_alone()
    rate = alone["f"]["insn"] / median(rates["first_cpu"])
    init_rate = (alone["r"]["insn"] - alone["f"]["insn"]) / median(rates["init_cpu"])
    known = dict(known, time="host: clock; guest: instructions at the native rate")
    bench.add("startup_native_first_ms", [s * 1e3 for s in rates["first_cpu"]], "ms", **known)
    bench.add("startup_native_init_ms", [s * 1e3 for s in rates["init_cpu"]], "ms", **known)
    bench.add("startup_rate", [rate / 1e6], "insn/us", **known)
    bench.add("startup_rate_init", [init_rate / 1e6], "insn/us", **known)
    bench.add("startup_boot_insn", [boot_insn], "insn", **known)
    bench.add("startup_container_insn", [alone["f"]["insn"]], "insn", **known)

    def add(name, seconds, n):
        bench.add(f"startup_{name}_{n}", [seconds * 1e3], "ms", **known, containers=n)
        return seconds

    def parts(marks):
        return (marks["f"]["insn"] / rate, (marks["r"]["insn"] - marks["f"]["insn"]) / init_rate)

    reductions = {"": [], "_cpu": [], "_with_init": [], "_warm": []}
    for n in numbers:
        first, init = parts(alone)
        first_alone = first
        with_clone = hosts["template"][n][0] + first
        add("cold_ms", hosts["cold"][n][0] + boot_insn / rate + first, n)
        add("template_ms", with_clone, n)
        add("template_host_ms", hosts["template"][n][0], n)
        add("template_host_cpu_ms", hosts["template"][n][1], n)
        add("cold_host_ms", hosts["cold"][n][0], n)
        add("template_init_ms", with_clone + init, n)
        add("template_warm_ms", warm_alone["insn"] / rate, n)
        zone, host, marks, warm = zones[n]
        bench.add(f"startup_zone_insn_{n}", [zone], "insn", **known, containers=n)
        first, own_init = parts(marks)
        ours = host + zone / rate + first
        add("czone_ms", ours, n)
        add("czone_host_ms", host, n)
        add("czone_zone_ms", host + zone / rate, n)
        add("czone_init_ms", ours + own_init, n)
        add("czone_warm_ms", warm["insn"] / rate, n)
        reductions[""].append(1 - ours / with_clone)
        reductions["_cpu"].append(1 - ours / (hosts["template"][n][1] + first_alone))
        reductions["_with_init"].append(1 - (ours + own_init) / (with_clone + init))
        reductions["_warm"].append(1 - warm["insn"] / warm_alone["insn"])
        for way, by_number in clocks.items():
            if n in by_number:
                add(f"{way}_clock_ms", by_number[n], n)
    bench.add("startup_reduction_vs_template", reductions[""], "share", (">=", 0.9), **known,
              containers=numbers)
    for name in "_cpu", "_with_init", "_warm":
        bench.add("startup_reduction_vs_template" + name, reductions[name], "share", **known,
                  containers=numbers)


def add_memory(bench, known, mib, found):
    """Memory per container, and the reductions at the greatest number."""
    over = {}
    for way, by_number in found.items():
        for n, ((total, code, _), held, split, unreclaimed) in by_number.items():
            where = dict(known, containers=n, function_mib=mib)
            suffix = f"{mib}mib_{n}"
            bench.add(f"memory_{way}_{suffix}", [(total - code) / n], "bytes", **where)
            bench.add(f"memory_{way}_with_emulator_{suffix}", [total / n], "bytes", **where)
            bench.add(f"overhead_{way}_{suffix}", [(total - code - held) / n], "bytes", **where)
            if unreclaimed is not None:
                bench.add(f"memory_{way}_unreclaimed_{suffix}", [unreclaimed / n], "bytes", **where)
            if n == max(by_number):
                for part, size in split.items():
                    bench.add(f"memory_split_{way}_{part}_{suffix}", [size / n], "bytes", **where)
            over[way, n] = (total - code) / n, (total - code - held) / n, (total - held) / n
    rows = {}
    for n in sorted({n for _, n in over}):
        theirs, ours = over["template", n], over["czone", n]
        rows[n] = [1 - a / b for a, b in zip(ours, theirs)]
        where = dict(known, containers=n, function_mib=mib)
        bench.add(f"memory_reduction_{mib}mib_{n}", [rows[n][0]], "share", **where)
        bench.add(f"overhead_reduction_{mib}mib_{n}", [rows[n][1]], "share", **where)
        bench.add(f"overhead_reduction_with_emulator_{mib}mib_{n}", [rows[n][2]], "share", **where)
    # total memory falls by less than half where the function's own is so much
    n = max(rows)
    even = (over["template", n][1] - 2 * over["czone", n][1]) / MIB
    bench.add(f"memory_half_point_{mib}mib_{n}", [max(0, even)], "MiB", **known)
    return rows


def numbers_of(text):
    return sorted({int(n) for n in text.split(",")})


def main():
    bench = Bench(__doc__, (["--containers"], dict(type=numbers_of, metavar="N,N...")),
                  (["--mib"], dict(type=numbers_of, metavar="MIB,MIB...",
                                   help="private memory of the function")),
                  runs=1, quick_runs=1)
    quick = bench.args.quick
    numbers = bench.args.containers or ([1, 4, 32] if quick else [1, 2, 4, 8, 16, 32])
    sizes = bench.args.mib or ([50] if quick else [10, 50, 170])
    known = dict(conditions(), microvm_mib=MEMORY // MIB, image_zone_mib=IMAGE_ZONE // MIB)
    with Template() as template:
        bench.add("template_file", [template.size()], "bytes", **known)
        clones, clone_hosts, clone_clocks = fleet_of_clones(bench, sizes, numbers, template.clone)
    few = [n for n in numbers if not quick or n <= CLOCKS]
    booted, boot_hosts, _ = fleet_of_clones(bench, sizes[:1], few, boot)
    zones, memory = fleet_of_zones(bench, sizes, numbers)
    at_32 = []
    for mib in sizes:
        found = {"template": clones[mib], "czone": memory[mib]}
        if mib in booted:
            found["cold"] = booted[mib]
        rows = add_memory(bench, known, mib, found)
        if 32 in rows:
            at_32.append(rows[32][1])
    for n in numbers:
        boot_hosts.setdefault(n, boot_hosts[few[-1]])
    some = [n for n in numbers if n <= CLOCKS] or numbers[:1]
    add_latency(bench, known, numbers, zones, {"template": clone_hosts, "cold": boot_hosts},
                {"template": clone_clocks, "czone": clocks_of_zones(sizes[0], some)})
    if at_32:
        bench.add("overhead_reduction_at_32", at_32, "share", (">=", 0.92), **known,
                  function_mib=sizes)
        bench.results[-1]["value"] = min(at_32)
    bench.end()


if __name__ == "__main__":
    main()
