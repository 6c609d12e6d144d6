#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A piece of the Azure Functions Trace 2019, replayed in real VMs under four policies.

Functions of the sample whose containers come and go within --window minutes; time is
compressed (--compress), memory scaled (--scale). A container lives from its first invocation
until 10 minutes after its last; it dirties its memory when it starts, and holds it.
  scpv        a microVM from a template for each container, killed when it ends
  none        one VM, nothing is returned
  virtio_mem  one VM; requested-size follows what is live at each start and end
  czone       one VM, a zone for each container, destroyed with it
Host memory is the PSS of all VMMs without the emulator's translated code. Before the replay
each VM is measured with a few containers: that is the cost model of azure_sim (written to
$CZONE_AZURE_MODEL), and `..._error` is how far its simulation of the very same containers is
from what was measured.
"""
import os
import pathlib
import threading
import time

from azure import trace
from azure.model import Model
from azure.simulate import area, simulate
from function_vm import Rollup
from measure import MIB, Bench, conditions
from microvm import Container, MicroVM
from template import Template
from vms import PlainVM

POOL = 6 << 30
BLOCK = 4 * MIB
SLACK = 64 * MIB
PLUGGED_AT_BOOT = "memhp_default_state=online_movable"


def rootfs():
    return pathlib.Path(os.environ["CZONE_MICROVM"]) / "rootfs.img"


def disk():
    return ["-drive", f"file={rootfs()},format=raw,if=none,readonly=on,id=image",
            "-device", "virtio-blk-pci,drive=image"]


def memory_of(pid):
    found = Rollup.of(pid)
    return found.total - found.code


class InGuest(Container):
    """A container without a zone, in a VM that libczone does not know."""

    def __init__(self, guest, name):    # pylint: disable=super-init-not-called
        self.guest, self.name = guest, name
        self.guest.run(f"container create {name}")


def dirty(container, size):
    container.workload(anon=size // MIB)
    container.wait("ready")


class Zones:
    name = "czone"

    def __enter__(self):
        self.m = MicroVM(pool=POOL).__enter__()
        self.resident = self.returned = 0
        return self

    def __exit__(self, *exc):
        self.m.__exit__(*exc)

    def start(self, i, size):
        c = Container(self.m, f"c{i}", size + 12 * MIB)
        dirty(c, size)
        return c

    def end(self, c):
        self.resident += c.zone.stats().host_resident
        c.stop()
        self.returned += c.zone.destroy().returned
        c.remove()

    def settle(self):
        time.sleep(2)       # the kernel keeps the memory map of what was a zone for a second

    def memory(self):
        return memory_of(self.m.vm.stats().pid)


class Nothing:
    name = "none"
    arguments, cmdline, size = (), "", POOL

    def __enter__(self):
        self.live = 0
        self.m = PlainVM(*disk(), *self.arguments, counted=False, cpus=2, memory=self.size,
                         cmdline=self.cmdline).__enter__()
        return self

    def __exit__(self, *exc):
        self.m.__exit__(*exc)

    def start(self, i, size):
        c = InGuest(self.m.guest, f"c{i}")
        c.size = size
        self.live += size
        self.follow()
        dirty(c, size)
        return c

    def end(self, c):
        c.stop()
        c.remove()
        self.live -= c.size
        self.follow()

    def follow(self):
        pass

    def settle(self):
        pass

    def memory(self):
        return memory_of(self.m.qemu.pid)


class VirtioMem(Nothing):
    name = "virtio_mem"
    cmdline, size = PLUGGED_AT_BOOT, 512 * MIB
    arguments = ("-object", f"memory-backend-memfd,id=vmem,share=on,reserve=off,size={POOL}",
                 "-device", "virtio-mem-pci,id=vm0,memdev=vmem,requested-size=0")

    def plugged(self):
        return self.m.qmp("query-memory-devices")[0]["data"]["size"]

    def follow(self):
        wanted = -(-(self.live + SLACK) // BLOCK) * BLOCK
        growing = wanted > self.plugged()
        self.m.qmp("qom-set", path="/machine/peripheral/vm0", property="requested-size",
                   value=wanted)
        end = time.monotonic() + 10
        while growing and self.plugged() < wanted and time.monotonic() < end:
            time.sleep(0.002)

    def settle(self):
        """Until no more comes: (seconds until the last that did)."""
        last, since, start = self.plugged(), time.monotonic(), time.monotonic()
        while time.monotonic() < since + 2:
            time.sleep(0.01)
            now = self.plugged()
            if now != last:
                last, since = now, time.monotonic()
        return since - start


class MicroVMs:
    name = "scpv"

    def settle(self):
        pass

    def __enter__(self):
        self.template = Template(disk=disk(), warm=False)
        self.vms = {}
        self.lock = threading.Lock()
        return self

    def __exit__(self, *exc):
        for m in self.vms:
            m.__exit__(None)
        self.template.close()

    def start(self, i, size):
        m = self.template.clone()[0]
        with self.lock:
            self.vms[m] = None
        c = InGuest(m.guest, f"c{i}")
        dirty(c, size)
        c.microvm = m
        return c

    def end(self, c):
        with self.lock:
            del self.vms[c.microvm]
        c.microvm.__exit__(None)

    def memory(self):
        with self.lock:
            return sum(memory_of(m.qemu.pid) for m in self.vms)


POLICIES = [Zones, VirtioMem, Nothing, MicroVMs]


def schedule(window, compress, scale, concurrency, seed=0):
    """[(start, end, bytes)] in compressed seconds: functions until so many live on average."""
    first, minutes = window
    functions = trace.read_2019(**trace.SAMPLE)
    chosen, held = [], 0.0
    for f in functions[seed:] + functions[:seed]:
        found = []
        for start, end in trace.lives(f):
            start, end = start / 60 - first, end / 60 - first
            if end <= 0 or start >= minutes:
                continue
            found.append((max(0.0, start), min(minutes, end)))
        # what never comes or goes within the window shows nothing but itself
        if not found or all(s == 0 and e == minutes for s, e in found) or len(found) > 12:
            continue
        size = max(8, round(f.memory_mb * scale / 4) * 4) * MIB
        chosen += [(s * 60 / compress, e * 60 / compress, size) for s, e in found]
        held += sum(e - s for s, e in found) / minutes
        if held >= concurrency:
            break
    return sorted(chosen), minutes * 60 / compress


def replay(policy, containers, length, bench):
    """(what lived, as it was: [(start, end, bytes)], [(time, {policy, live})])"""
    events = sorted([(s, 1, i) for i, (s, _, _) in enumerate(containers)] +
                    [(e, 0, i) for i, (_, e, _) in enumerate(containers) if e < length])
    lives, running, series = {}, {}, []
    live, ended, begin = [0], threading.Event(), time.monotonic()

    def now():
        return time.monotonic() - begin

    def watch():
        while not ended.is_set():
            series.append((now(), {policy.name: policy.memory(), "live": live[0]}))
            ended.wait(0.5)

    watcher = threading.Thread(target=watch)
    watcher.start()
    late = 0.0
    try:
        for at, what, i in events:
            time.sleep(max(0, at - now()))
            late = max(late, now() - at)
            if what:
                running[i] = policy.start(i, containers[i][2])
                live[0] += containers[i][2]
                lives[i] = [now(), None, containers[i][2]]
            else:
                live[0] -= containers[i][2]
                lives[i][1] = now()
                policy.end(running.pop(i))
        time.sleep(max(0, length - now()))
    finally:
        ended.set()
        watcher.join()
        end = now()
        for c in running.values():
            policy.end(c)
    bench.say(f"{policy.name}: {len(containers)} containers, at most {late:.1f} s late")
    return [(s, e or end + 1, size) for s, e, size in lives.values()], series


def calibrate(policy, found):
    """A few containers come, every other one goes, then all."""
    sizes = [48 * MIB] * 8
    base = policy.memory()
    some = [policy.start(f"k{i}", size) for i, size in enumerate(sizes)]
    full = policy.memory()
    each = max(0, (full - base - sum(sizes)) / len(some))
    for c in some[::2]:
        policy.end(c)
    freed = sum(sizes[::2]) + each * len(some) / 2
    seconds = policy.settle()
    half = policy.memory()
    for c in some[1::2]:
        policy.end(c)
    policy.settle()
    left = max(0, policy.memory() - base)
    if policy.name == "scpv":
        found["scpv_overhead"] = (full - sum(sizes)) / len(some)
    elif policy.name == "none":
        found["base"], found["per_container"] = base, each
    elif policy.name == "virtio_mem":
        found["virtio_mem_base"], found["virtio_mem_per_container"] = base, each
        found["virtio_mem_slack"] = left
        found["virtio_mem_share"] = min(1.0, max(0.0, (full - half) / max(1, freed - left)))
        found["virtio_mem_seconds_per_gib"] = seconds / freed * (1 << 30)
    else:
        found["czone_base"], found["czone_per_container"] = base, each
        found["czone_residue"] = min(each, left / len(some))
        found["czone_share"] = policy.returned / policy.resident


def main():
    bench = Bench(__doc__,
                  (["--start"], dict(type=int, default=600, help="first minute of the day")),
                  (["--window"], dict(type=int, help="minutes of the trace")),
                  (["--compress"], dict(type=float, help="how much faster")),
                  (["--scale"], dict(type=float, default=0.5, help="of the memory; default 0.5")),
                  (["--concurrency"], dict(type=float, help="containers that live, on average")),
                  runs=1, quick_runs=1)
    args = bench.args
    window = args.window or (30 if args.quick else 60)
    compress = args.compress or (60 if args.quick else 30)
    containers, length = schedule((args.start, window), compress, args.scale,
                                  args.concurrency or (4 if args.quick else 10))
    known = dict(conditions(), containers=len(containers), compress=compress, scale=args.scale,
                 window_min=window, start_min=args.start, keep_alive_min=10)
    found, real, areas = {}, {}, {}
    for kind in POLICIES:
        bench.say(f"{kind.name}: {len(containers)} containers in {length:.0f} s")
        with kind() as policy:
            calibrate(policy, found)
            real[kind.name] = replay(policy, containers, length, bench)
    model = Model(**found)
    for key, value in found.items():
        unit = {"virtio_mem_seconds_per_gib": "s/GiB"}.get(key, "share" if "share" in key else "bytes")
        bench.add(f"azure_model_{key}", [value], unit, **known)
    if os.environ.get("CZONE_AZURE_MODEL"):
        model.write(os.environ["CZONE_AZURE_MODEL"])
    live = real["czone"][1]
    bench.add("azure_replay_memory_live", [sum(r["live"] for _, r in live) / len(live)], "bytes",
              **known, series=[[round(t, 2), r["live"]] for t, r in live],
              time_unit=f"s ({compress:.0f} times as fast as the trace)")
    for name, (lives, series) in real.items():
        seconds = series[-1][0] - series[0][0]
        mean = sum(r[name] for _, r in series) / len(series)
        bench.add(f"azure_replay_memory_{name}", [mean], "bytes", **known,
                  series=[[round(t, 2), r[name]] for t, r in series])
        areas[name] = area(series, name) / seconds
        bench.add(f"azure_replay_area_{name}", [areas[name]], "bytes", **known)
        simulated = simulate(lives, model, seconds, 0.5)
        theirs = area(simulated, name) / (simulated[-1][0] - simulated[0][0])
        bench.add(f"azure_replay_area_{name}_error", [theirs / areas[name] - 1], "share", **known)
        total = sum(r[name] for _, r in simulated) / len(simulated)
        bench.add(f"azure_replay_memory_{name}_error", [total / mean - 1], "share", **known)
    for other in "virtio_mem", "scpv", "none":
        bench.add(f"azure_replay_area_reduction_vs_{other}", [1 - areas["czone"] / areas[other]],
                  "share", **known)
    bench.end()


if __name__ == "__main__":
    main()
