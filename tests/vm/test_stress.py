# SPDX-License-Identifier: LGPL-2.1-or-later
"""The debug kernel (KASAN, lockdep, DEBUG_VM, unmapped free pages): its KUnit tests, every
allocation failure, and everything at random.

CZONE_STRESS_OPERATIONS makes it longer (20000 take a night), CZONE_STRESS_SEED another one.
"""
import os
import random
import re
import time

import czone
import pytest

from microvm import MIB, Container, MicroVM

OPERATIONS = int(os.environ.get("CZONE_STRESS_OPERATIONS", "60"))
SEED = int(os.environ.get("CZONE_STRESS_SEED", "1"))
# What KASAN's quarantine, slab and per-cpu memory of reused zones may keep of the boot memory.
BOOT_SLACK = 64 * MIB


@pytest.fixture(scope="module")
def microvm():
    with MicroVM(kernel=os.environ["CZONE_DEBUG_KERNEL"], pool=1 << 30, boot_bytes=1 << 30,
                 timeout=300, cmdline="debug_pagealloc=on page_table_check=on czone.boot_map=12") as vm:
        yield vm


def test_kunit(microvm):
    text = microvm.console()
    lines = [x for x in text.splitlines() if re.search(r"\b(not )?ok \d+ ", x) or "# Totals" in x]
    print("\n".join(lines))
    passed = re.search(r"^(?:\[[ .\d]+\] )?ok \d+ czone", text, re.M)
    assert passed, "the czone suite has not run, or has failed"
    assert "not ok" not in text and "# SKIP" not in text


def test_each_allocation_fails(microvm):
    """No request loses anything, whichever of its allocations fails."""
    text = microvm.guest.run("stress faults", limit=600)
    print(text)
    assert text.endswith("ok\n")


class Stress:
    """Containers that live and die at random, and a model of what must hold."""

    def __init__(self, microvm):
        self.microvm, self.random = microvm, random.Random(SEED)
        self.live, self.serial, self.done = [], 0, {}

    def start(self):
        self.serial += 1
        kind = self.random.choice(["anon", "anon", "thp", "shm", "file", "mix"])
        mib = self.random.choice([4, 8, 16])
        load = {"anon": dict(anon=mib), "thp": dict(anon=mib, thp=1), "shm": dict(shm=mib),
                "file": dict(file=mib), "mix": dict(anon=mib, shm=mib // 2, file=mib // 2)}[kind]
        c = Container(self.microvm, f"s{self.serial}", (2 * mib + 12) * MIB,
                      spill=self.random.random() < 0.3)
        c.workload(free=self.random.choice([25, 50]), chunk=self.random.choice([0, 4, 64]),
                   seed=self.serial, **load)
        self.live.append(c)

    def churn(self):
        """A container whose task forks, maps, pins and frees without pause."""
        self.serial += 1
        c = Container(self.microvm, f"s{self.serial}", 24 * MIB, spill=self.random.random() < 0.3)
        c.guest.run(f"mkdir -p /run/c; sh -c 'echo $$ > /sys/fs/cgroup{c.cgroup}/cgroup.procs;"
                    f" exec stress churn 16 {self.serial}' > /run/c/{c.name}.log 2>&1 &")
        self.live.append(c)

    def system(self):
        """What somebody does to the whole VM."""
        self.microvm.guest.run(self.random.choice([
            "echo 1 > /proc/sys/vm/compact_memory", "echo 3 > /proc/sys/vm/drop_caches",
            "echo 1 > /sys/kernel/mm/ksm/run", "echo 2 > /sys/kernel/mm/ksm/run",
            "cat /proc/zoneinfo /proc/buddyinfo /proc/pagetypeinfo > /dev/null"]))

    def overfill(self):
        """A container that cannot fit: it must die alone."""
        self.serial += 1
        c = Container(self.microvm, f"s{self.serial}", 8 * MIB)
        c.workload(anon=32)
        self.live.append(c)

    def idle(self):
        c = self.random.choice(self.live)
        if c.pid:
            c.guest.run(f"kill -{self.random.choice(['USR1', 'USR2'])} {c.pid} 2>/dev/null || true")

    def reclaim(self):
        if self.random.random() < 0.3:
            self.microvm.vm.reclaim()
        else:
            self.random.choice(self.live).zone.reclaim(with_cache=self.random.random() < 0.3)

    def resize(self):
        zone = self.random.choice(self.live).zone
        try:
            zone.resize(max(4, zone.stats().size // MIB + self.random.choice([-8, 4, 16])) * MIB)
        except czone.Error as e:
            assert e.errno in (16, 28), e   # EBUSY, ENOSPC

    def end(self):
        c = self.live.pop(self.random.randrange(len(self.live)))
        assert "CORRUPT" not in c.log(), c.log()
        way = self.random.random()
        if way < 0.2:
            c.zone.destroy(with_tasks=True)
            c.stop()
            c.remove()
        elif way < 0.5:
            c.stop()
            c.zone.destroy()
            c.remove()
        else:
            c.stop()
            c.remove()
            c.zone.destroy()

    def check(self):
        c = self.random.choice(self.live)
        s = c.zone.stats()
        assert s.used + s.free_backed + s.free_unbacked == s.size, s

    def run(self, operations):
        for n in range(operations):
            names = ["start", "start", "churn", "churn"] if len(self.live) < 6 else ["end"]
            names.append("system")
            if self.live:
                names += ["idle", "reclaim", "reclaim", "resize", "end", "check"]
            if len(self.live) < 6:
                names.append("overfill")
            name = self.random.choice(names)
            self.done[name] = self.done.get(name, 0) + 1
            try:
                getattr(self, name)()
            except Exception as e:
                raise AssertionError(f"operation {n} ({name}), seed {SEED}: {e}") from e
        while self.live:
            self.end()


def requests_done(microvm, limit=600):
    """What the guest's own requests have come to."""
    end = time.monotonic() + limit
    while True:
        text = microvm.guest.run("cat /run/requests.log; pidof stress-requests || true")
        if not re.search(r"^\d+$", text, re.M):
            return text
        assert time.monotonic() < end, text
        time.sleep(0.5)


def test_everything_at_random(microvm):
    guest = microvm.guest
    guest.run("echo 3 > /proc/sys/vm/drop_caches")
    microvm.vm.reclaim()
    before = microvm.vm.stats()
    guest.run("ln -s /bin/stress /run/stress-requests")
    guest.run(f"/run/stress-requests requests {4 * OPERATIONS} {SEED} > /run/requests.log 2>&1 &")
    stress = Stress(microvm)
    stress.run(OPERATIONS)
    done = requests_done(microvm)
    assert done.endswith("ok\n"), done
    guest.run("echo 2 > /sys/kernel/mm/ksm/run; echo 3 > /proc/sys/vm/drop_caches")
    microvm.vm.reclaim()
    s = microvm.vm.stats()
    print(f"{OPERATIONS} operations, seed {SEED}: {stress.done}\nin the guest: {done}\n{before}\n{s}")
    assert s.zones == 0 and s.pool_used == 0
    assert s.host_pool <= before.host_pool
    assert s.boot_free >= before.boot_free - BOOT_SLACK
    zone = microvm.vm.create(4 * MIB)
    assert zone.id == 1
    zone.destroy()
