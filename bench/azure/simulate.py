# SPDX-License-Identifier: LGPL-2.1-or-later
"""Host memory of a fleet over time, under each policy at once, with simpy.

Containers come and go as their functions' invocations have it (trace.lives). They fill VMs
to containers_per_vm, in the order of their coming. Each VM's memory, in bytes:
  scpv        no such VMs: a microVM for each container, gone with it
  none        nothing is returned: the most that it ever held, and what it costs itself
  virtio_mem  when a container ends, what is free above the slack is asked back; a share comes, later
  czone       when a container ends, its zone is destroyed and comes back
  ideal       the same VM, if nothing were ever left over and a container cost no more than in it alone:
              what no way to return memory can be better than
"""
import concurrent.futures
import pathlib
import shutil
import tempfile

import simpy

from . import trace

HERE = pathlib.Path(__file__).resolve().parent

MIB = 1 << 20
POLICIES = "scpv", "none", "virtio_mem", "czone", "ideal", "live"


class VM:
    """One VM that runs many containers, with each policy's view of it."""

    def __init__(self, model):
        self.model = model
        self.containers = self.most = 0
        self.live = 0.0         # bytes that functions hold
        self.peak = 0.0         # the most that was ever in use: what stays without a return
        self.backed = 0.0       # virtio-mem: what the host has behind what is in use, and free
        self.stuck = 0.0        # czone: what did not come back

    def start(self, size):
        self.containers += 1
        self.live += size
        self.most = max(self.most, self.containers)
        self.peak = max(self.peak, self.used(self.model.per_container))
        self.backed = max(self.backed, self.used(self.model.virtio_mem_per_container))

    def end(self, size):
        self.containers -= 1
        self.live -= size
        self.stuck += size * (1 - self.model.czone_share)

    def used(self, per_container):
        return self.live + self.containers * per_container

    def unplug(self):
        """virtio-mem gives back a share of what is free."""
        m = self.model
        free = self.backed - self.used(m.virtio_mem_per_container) - m.virtio_mem_slack
        self.backed -= max(0.0, free) * m.virtio_mem_share

    def memory(self):
        m = self.model
        return {"scpv": self.live + self.containers * m.scpv_overhead,
                "none": m.base + self.peak,
                "virtio_mem": m.virtio_mem_base + self.backed,
                "czone": m.czone_base + self.used(m.czone_per_container) + self.stuck +
                         (self.most - self.containers) * m.czone_residue,
                "ideal": min(m.czone_base, m.virtio_mem_base) + self.used(
                    min(m.per_container, m.czone_per_container, m.virtio_mem_per_container)),
                "live": self.live}


class Fleet:
    """All VMs, and how much memory they have at each step of time."""

    def __init__(self, env, model, step):
        self.env, self.model, self.step = env, model, step
        self.vms, self.room, self.series = [], [], []

    def place(self):
        while self.room and self.room[-1].containers >= self.model.containers_per_vm:
            self.room.pop()
        if not self.room:
            self.vms.append(VM(self.model))
            self.room.append(self.vms[-1])
        return self.room[-1]

    def container(self, start, end, size):
        yield self.env.timeout(start)
        vm = self.place()
        vm.start(size)
        yield self.env.timeout(end - start)
        vm.end(size)
        if vm not in self.room[-1:] and vm.containers == self.model.containers_per_vm - 1:
            self.room.insert(0, vm)
        yield self.env.timeout(size / (1 << 30) * self.model.virtio_mem_seconds_per_gib)
        vm.unplug()

    def watch(self, until):
        while self.env.now <= until:
            total = dict.fromkeys(POLICIES, 0.0)
            for vm in self.vms:
                for policy, size in vm.memory().items():
                    total[policy] += size
            self.series.append((self.env.now, total))
            yield self.env.timeout(self.step)


def simulate(containers, model, until, step=60.0):
    """[(time, {policy: bytes})] for [(start, end, bytes)], all in seconds."""
    env = simpy.Environment()
    fleet = Fleet(env, model, step)
    for start, end, size in containers:
        env.process(fleet.container(start, end, size))
    env.process(fleet.watch(until))
    env.run(until=until + 1e-6)
    return fleet.series


def shard(job):
    """One part of a fleet, which shares no VM with others. For a process of its own, anywhere."""
    functions, model, until, step, keep_alive = job
    if isinstance(functions, range):    # generated where they are simulated
        functions = trace.generate(functions)
    containers = [(start, end, f.memory_mb * MIB) for f in functions
                  for start, end in trace.lives(f, keep_alive)]
    return simulate(containers, model, until, step), len(containers)


def add_up(parts):
    """Series of shards to one of all."""
    total = []
    for rows in zip(*parts):
        total.append((rows[0][0], {p: sum(row[1][p] for row in rows) for p in POLICIES}))
    return total


def run(jobs, scheduler=None, progress=lambda done: None):
    """Each job on this machine's processors, or on the cluster of a dask scheduler."""
    if scheduler:
        import distributed      # pylint: disable=import-outside-toplevel
        with distributed.Client(scheduler) as client, tempfile.TemporaryDirectory() as d:
            # the cluster need not have this package, only simpy
            client.upload_file(shutil.make_archive(f"{d}/azure", "zip", HERE.parent, HERE.name))
            futures = client.map(shard, jobs, pure=False)
            done = []
            for future in futures:
                done.append(future.result())
                progress(len(done))
            return done
    with concurrent.futures.ProcessPoolExecutor() as pool:
        done = []
        for result in pool.map(shard, jobs):
            done.append(result)
            progress(len(done))
        return done


def area(series, policy):
    """Byte-seconds above what live functions hold."""
    total = 0.0
    for (t, now), (following, _) in zip(series, series[1:]):
        total += (now[policy] - now["live"]) * (following - t)
    return total


def reductions(series, policy="czone"):
    """(against virtio-mem, against one container per VM)"""
    ours = area(series, policy)
    return 1 - ours / area(series, "virtio_mem"), 1 - ours / area(series, "scpv")
