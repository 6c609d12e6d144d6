#!/usr/bin/python3
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which share of the pages that a dead container dirtied comes back.

A container dirties anonymous memory, shared memory and files (page cache, written back),
dies, and its zone is destroyed: alone in the VM, and while 16 others free and dirty theirs.
What it dirtied is what is used in its zone when it dies, and what its process has mapped
from elsewhere; what came back is what the host no longer has behind the zone's range, page
by page in the pool's file, less what the destroy moved. Every page that is missing is named
by its cause.
"""
import os
import re

from measure import MIB, Bench, conditions
from microvm import Container, MicroVM

OTHERS = 16
PAGE = 4096
DIRTY = {"anon": 96, "shm": 16, "file": 16}     # MiB
ZONE = 160 * MIB
BUSY = ("while :; do dd if=/dev/zero of=/tmp/x bs=64k count=128 2>/dev/null;"
        " cp /tmp/x /data/x; cat /data/x >/dev/null; rm /tmp/x; done")


class Pool:
    """What the host has behind the pool."""

    def __init__(self, m):
        fds, size = f"/proc/{m.vm.stats().pid}/fd", 4 << 30
        found = [f"{fds}/{fd}" for fd in os.listdir(fds)
                 if os.readlink(f"{fds}/{fd}").startswith("/memfd:")
                 and os.stat(f"{fds}/{fd}").st_size == size]
        if len(found) != 1:
            raise RuntimeError(f"QEMU has {len(found)} files of the pool's size")
        self.fd = os.open(found[0], os.O_RDONLY)
        iomem = m.guest.run("cat /proc/iomem")
        self.start = int(re.search(r"(\w+)-\w+ : System RAM \(czone\)", iomem)[1], 16)

    def resident(self, ranges):
        """Bytes behind these ranges, page by page."""
        total = 0
        for r in ranges:
            at = r.start - self.start
            end = at + r.size
            while at < end:
                try:
                    data = os.lseek(self.fd, at, os.SEEK_DATA)
                except OSError:     # ENXIO: a hole up to the end of the file
                    break
                if data >= end:
                    break
                at = min(end, os.lseek(self.fd, data, os.SEEK_HOLE))
                total += at - data
        return total


def outside(c, ranges):
    """Bytes that the process has mapped, but not from the zone. The image is nobody's."""
    return sum(size for start, size, kind in c.pages() if kind != "image" and
               not any(r.start <= start and start + size <= r.start + r.size for r in ranges))


def one_death(m, pool, name):
    """(the share that came back, {cause: bytes that did not})"""
    c = Container(m, name, ZONE).workload(**DIRTY)
    c.wait("ready")
    ranges = c.zone.ranges()
    causes = {"outside the zone": outside(c, ranges)}
    dirtied = c.zone.stats().used + causes["outside the zone"]
    backed = pool.resident(ranges)
    c.stop()
    m.guest.run(f"rm /run/c/{name}.log")    # the platform's, not the container's
    report = c.zone.destroy()
    causes.update({"moved, for somebody uses it": report.migrated, "pinned": report.stuck_pinned,
                   "poisoned": report.stuck_poisoned, "busy": report.stuck_other})
    stuck = report.stuck_pinned + report.stuck_poisoned + report.stuck_other
    causes["unknown"] = max(0, pool.resident(ranges) - stuck)
    c.remove()
    if dirtied < sum(DIRTY.values()) * MIB or backed < 0.99 * dirtied:
        raise RuntimeError(f"{dirtied} bytes dirtied, {backed} backed: this shows nothing")
    return 1 - sum(causes.values()) / dirtied, {k: v for k, v in causes.items() if v}


def measure(bench, known, others, name, goal):
    shares, missing = [], {}
    with MicroVM(pool=4 << 30) as m:
        pool = Pool(m)
        for i in range(others):
            Container(m, f"other{i}", 48 * MIB)
            m.guest.run(f"container start other{i} sh -c '{BUSY}'")
        for n in range(bench.runs):
            bench.say(f"beside {others} others, run {n + 1} of {bench.runs}")
            share, causes = one_death(m, pool, f"dead{n}")
            shares.append(share)
            for cause, size in causes.items():
                missing[cause] = missing.get(cause, 0) + size
        for i in range(others):
            if "populated 1" not in m.guest.run(f"cat /sys/fs/cgroup/c/other{i}/cgroup.events"):
                raise RuntimeError(f"other{i} has died: they were not all running")
            m.guest.run(f"container stop other{i}")
    bench.add(name, shares, "share", (">=", goal), **known, others=others,
              missing={k: f"{v / len(shares) / PAGE:.1f} pages" for k, v in missing.items()})
    for cause, size in missing.items():
        print(f"    {size / len(shares) / PAGE:8.1f} pages per run: {cause}")
    return min(shares)


def main():
    bench = Bench(__doc__, runs=5, quick_runs=2)
    known = conditions()
    quiet = measure(bench, known, 0, "returned_share_quiet", 1.0)
    loaded = measure(bench, known, OTHERS, "returned_share_loaded", 0.995)
    bench.add("returned_share_min", [quiet, loaded], "share", (">=", 0.995), **known)
    bench.results[-1]["value"] = min(quiet, loaded)
    bench.end()


if __name__ == "__main__":
    main()
