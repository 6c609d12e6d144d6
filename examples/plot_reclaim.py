#!/usr/bin/env python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""An experiment from start to picture: what host memory a fleet of containers costs over
time, with and without reclaim of what they leave free. Use it as a start for your own
measurements: statistics are dataclasses, so that rows, tables and plots take a line each.

    plot_reclaim.py [--output reclaim.png] [--containers 8] [--steps 24]
    plot_reclaim.py --state-dir DIR --kernel bzImage --initrd initrd.gz --rootfs rootfs.img ...

Without a VM it runs on the test driver, which keeps zones' rules and frees real memory, in
this process; with one, in a microVM as examples/microvm makes it.
"""
import argparse
import csv
import dataclasses
import os
import random
import socket

import matplotlib
matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

import czone  # noqa: E402

MIB = 1 << 20
USES = 48 * MIB         # of a container, at its busiest


class TestContainer:
    """What uses memory on the test driver."""

    def __init__(self, vm, name):
        self.cgroup = f"/c/{name}"
        self.zone = vm.create(2 * USES, cgroup=self.cgroup)
        self.task = vm.start_task(self.cgroup)

    def use(self, size):
        self.task.fill(0, size, 1)
        self.task.discard(size, 2 * USES - size)

    def end(self):
        self.task.exit()
        self.zone.destroy()


class GuestContainer:
    """The same in a microVM, by its init's port: the workload fills a tmpfs file of this size."""

    def __init__(self, vm, name, guest):
        self.cgroup, self.guest, self.name = f"/c/{name}", guest, name
        guest(f"mkdir -p /sys/fs/cgroup/c/{name} /run/{name}")
        self.zone = vm.create(2 * USES, cgroup=self.cgroup)

    def use(self, size):
        self.guest(f"sh -c 'echo 0 >/sys/fs/cgroup{self.cgroup}/cgroup.procs && "
                   f"head -c {size} /dev/zero >/run/{self.name}/f'")

    def end(self):
        self.guest(f"rm -r /run/{self.name}")
        self.zone.destroy()
        self.guest(f"rmdir /sys/fs/cgroup{self.cgroup}")


def exec_port(path):
    """Runs shell lines in the microVM: see examples/microvm/init."""
    port = socket.socket(socket.AF_UNIX)
    port.settimeout(120)
    port.connect(path)
    answers = port.makefile("rb")

    def run(line):
        port.sendall(line.encode() + b"\n")
        status, length = map(int, answers.readline().split())
        output = answers.read(length).decode(errors="replace")
        if status:
            raise RuntimeError(f"'{line}': {output}")
        return output
    return run


def experiment(vm, make, containers, steps, reclaim):
    """Rows of figures: busy and idle times of each container by turns, then its end."""
    random.seed(1)      # the same load in both runs
    fleet = [make(vm, f"{'r' if reclaim else 'n'}{i}") for i in range(containers)]
    rows = []
    for step in range(steps):
        for container in random.sample(fleet, max(1, len(fleet) // 3)):
            container.use(random.randrange(USES // 8, USES) & ~4095)
        if reclaim:
            for container in fleet:
                container.zone.reclaim()
        if step >= steps * 2 // 3 and fleet:
            fleet.pop().end()
        stats = dataclasses.asdict(vm.stats())
        rows.append({"step": step, "reclaim": reclaim,
                     "used": sum(c.zone.stats().used for c in fleet), **stats})
    for container in fleet:
        container.end()
    return rows


def plot(rows, path):
    figure, axes = pyplot.subplots(figsize=(7, 4))
    for reclaim, label in ((False, "host memory, nothing reclaimed"), (True, "host memory, reclaimed")):
        run = [row for row in rows if row["reclaim"] == reclaim]
        axes.plot([r["step"] for r in run], [r["host_pool"] / MIB for r in run], label=label)
    axes.plot([r["step"] for r in run], [r["used"] / MIB for r in run], "k:", label="used by containers")
    axes.set(xlabel="step", ylabel="MiB")
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--output", default="reclaim.png")
    parser.add_argument("--csv", help="write the rows there, too")
    parser.add_argument("--containers", type=int, default=8)
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--state-dir", help="start a VM, with its state there")
    parser.add_argument("--kernel")
    parser.add_argument("--initrd")
    parser.add_argument("--rootfs")
    args = parser.parse_args()
    if args.state_dir:
        channel = os.path.join(args.state_dir, "exec")
        vm = czone.VM.start(state_dir=args.state_dir, kernel=args.kernel, initrd=args.initrd,
                            disks=[f"ro:{args.rootfs}"] if args.rootfs else [], channel=channel)
        guest = exec_port(channel)
        make = lambda vm, name: GuestContainer(vm, name, guest)  # noqa: E731
    else:
        vm = czone.open("test:///default")
        make = TestContainer
    with vm:
        rows = []
        for reclaim in (False, True):
            rows += experiment(vm, make, args.containers, args.steps, reclaim)
    plot(rows, args.output)
    if args.csv:
        with open(args.csv, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    mean = {r: sum(x["host_pool"] for x in rows if x["reclaim"] == r) / args.steps / MIB
            for r in (False, True)}
    print(f"host memory of the pool on average: {mean[False]:.1f} MiB without reclaim, "
          f"{mean[True]:.1f} MiB with; picture: {args.output}")


if __name__ == "__main__":
    main()
