# SPDX-License-Identifier: LGPL-2.1-or-later
"""Zones in the rest of memory management: swap, writeback, KSM, khugepaged, pins, bad pages."""
import re
import time

import czone
import pytest

from microvm import MIB, STEP_S, Container

PAGE = 4096
SLACK = 64 * PAGE   # the shell's and the loader's own pages


class Load(Container):
    """A container that runs one of mm-load's ways of having memory."""

    def load(self, *args):
        self.guest.run(f"mkdir -p /run/c /scratch/{self.name}")
        self.pid = int(self.guest.run(
            f"sh -c 'echo $$ > /sys/fs/cgroup{self.cgroup}/cgroup.procs;"
            f" exec mm-load {' '.join(map(str, args))}' > /run/c/{self.name}.log 2>&1 & echo $!"))
        return self

    def let_go(self):
        self.signal("USR1")
        self.wait("gone")


def end(*containers):
    """Nothing of a container must be left in its zone: destroy() raises otherwise."""
    for c in containers:
        c.stop()
        c.remove()
        if c.zone:
            c.zone.destroy()


def where(c, *zones, kinds=("anon", "shm", "file")):
    """(bytes in these zones, bytes elsewhere) of what a container has mapped."""
    ranges = [r for z in zones or [c.zone] for r in z.ranges()]
    inside = outside = 0
    for start, size, kind in c.pages():
        if kind not in kinds:
            continue
        if any(r.start <= start and start + size <= r.start + r.size for r in ranges):
            inside += size
        else:
            outside += size
    return inside, outside


def until(what, true, limit=STEP_S):
    stop = time.monotonic() + limit
    while not true():
        assert time.monotonic() < stop, f"in vain: {what}"
        time.sleep(0.1)


def numbers(microvm, path):
    """The file's lines of a name and a number, as meminfo and vmstat have them."""
    text = microvm.guest.run(f"cat {path}")
    return {k: int(v) for k, v in re.findall(r"^([\w()]+):?\s+(\d+)(?: kB)?$", text, re.M)}


def events(c):
    return numbers(c.microvm, f"/sys/fs/cgroup{c.cgroup}/memory.events")


def statistics(c):
    return numbers(c.microvm, f"/sys/fs/cgroup{c.cgroup}/memory.stat")


def write(microvm, value, path):
    microvm.guest.run(f"echo {value} > {path}")


def huge(c):
    """Bytes of huge pages that a container's process has."""
    return 1024 * int(c.guest.run(
        f"awk '/^AnonHugePages/ {{ s += $2 }} END {{ print s + 0 }}' /proc/{c.pid}/smaps"))


@pytest.fixture
def swap(microvm):
    run = microvm.guest.run
    run("dd if=/dev/zero of=/scratch/swap bs=1M count=160 2>/dev/null && chmod 600 /scratch/swap"
        " && mkswap /scratch/swap && swapon /scratch/swap")
    yield
    run("! grep -q ^/scratch/swap /proc/swaps || swapoff /scratch/swap; rm /scratch/swap")


@pytest.fixture(params=[0, 7], ids=["lru", "mglru"])
def lru(microvm, request):
    """Both kinds of page reclaim."""
    write(microvm, request.param, "/sys/kernel/mm/lru_gen/enabled")
    yield
    write(microvm, 0, "/sys/kernel/mm/lru_gen/enabled")


@pytest.fixture
def ksm(microvm):
    for name, value in (("pages_to_scan", 10000), ("sleep_millisecs", 20), ("run", 1)):
        write(microvm, value, f"/sys/kernel/mm/ksm/{name}")
    yield
    write(microvm, 2, "/sys/kernel/mm/ksm/run")
    write(microvm, 0, "/sys/kernel/mm/ksm/run")


# Swap

def test_a_full_zone_swaps_before_it_kills(microvm, swap, lru):
    c = Container(microvm, "swaps", 48 * MIB).workload(anon=64, shm=16)
    c.wait("ready")
    assert events(c)["oom_kill"] == 0
    swapped = int(microvm.guest.run(f"cat /sys/fs/cgroup{c.cgroup}/memory.swap.current"))
    assert swapped >= 30 * MIB, "nothing was swapped: there is nothing to show"
    assert c.verify() == 80 * MIB
    inside, outside = where(c)
    assert inside >= 16 * MIB and not outside, (inside, outside)
    end(c)


def test_swap_in_takes_the_owners_zone(microvm, swap):
    """Neighbours in the swap file are read in by each other, and by swapoff."""
    both = [Load(microvm, name, 32 * MIB).load("ksm", 12) for name in ("mine", "yours")]
    for c in both:
        c.wait("ready")
    for _ in range(3):      # out by turns, so that their entries are mixed
        for c in both:
            microvm.guest.run(f"echo 5M > /sys/fs/cgroup{c.cgroup}/memory.reclaim", check=False)
    used = [c.zone.stats().used for c in both]
    assert all(u < 8 * MIB for u in used), f"not swapped out: {used}"
    before = numbers(microvm, "/proc/vmstat")["swap_ra"]
    assert both[0].verify() == 12 * MIB
    assert numbers(microvm, "/proc/vmstat")["swap_ra"] > before, "no readahead: nothing is shown"
    microvm.guest.run("swapoff /scratch/swap")
    for c in both:
        inside, outside = where(c)
        assert inside >= 12 * MIB and not outside, (inside, outside)
        # swapped in by others or not, in the zone is what the cgroup is charged for
        assert c.zone.stats().used <= 12 * MIB + SLACK + 2 * MIB
        assert c.verify() == 12 * MIB
    end(*both)


# Writeback

@pytest.mark.parametrize("load", ["dd if=/dev/zero of=/data/big bs=1M count=256",
                                  "workload file=128"], ids=["write", "mmap"])
def test_a_writer_does_not_fill_its_zone_with_dirty_cache(microvm, lru, load):
    c = Container(microvm, "writer", 32 * MIB)
    microvm.guest.run(f"container start writer sh -c '{load}; echo over $?'"
                      if load.startswith("dd") else f"container start writer {load}")
    zone, peak = f"czone{c.zone.id}", 0
    stop = time.monotonic() + 2 * STEP_S
    while not any(word in c.log() for word in ("over", "ready")):
        peak = max(peak, zoneinfo(microvm)[zone]["nr_zone_write_pending"] * PAGE)
        assert events(c)["oom_kill"] == 0, c.log()
        assert time.monotonic() < stop, c.log()
        time.sleep(0.2)
    assert "over 0" in c.log() or "ready" in c.log(), c.log()
    print(f"at most {peak // 1024} KiB dirty or under writeback")
    assert peak <= 16 * MIB
    assert events(c)["oom_kill"] == 0
    end(c)


# Who allocates for somebody else

def test_ksm_merges_and_unmerges_within_zones(microvm, ksm):
    both = [Load(microvm, name, 32 * MIB).load("ksm", 8) for name in ("twin", "other")]
    for c in both:
        c.wait("ready")
    zones = [c.zone for c in both]
    until("merging", lambda: int(microvm.guest.run("cat /sys/kernel/mm/ksm/pages_sharing")) >= 2000)
    for c in both:
        inside, outside = where(c, *zones)
        assert inside >= 8 * MIB and not outside, (inside, outside)
    assert sum(z.stats().used for z in zones) <= 10 * MIB
    write(microvm, 2, "/sys/kernel/mm/ksm/run")     # the shell unmerges, not the containers
    for c in both:
        assert not where(c)[1], "an unmerged page is not in its container's zone"
        assert c.verify() == 8 * MIB
    end(*both)


def test_khugepaged_collapses_within_the_zone(microvm):
    directory = "/sys/kernel/mm/transparent_hugepage/khugepaged"
    old = {name: microvm.guest.run(f"cat {directory}/{name}").strip()
           for name in ("scan_sleep_millisecs", "alloc_sleep_millisecs")}
    for name in old:
        write(microvm, 10, f"{directory}/{name}")
    c = Load(microvm, "collapsed", 48 * MIB).load("collapse", 16)
    c.wait("ready")
    until("khugepaged", lambda: huge(c) == 16 * MIB)
    assert not where(c)[1]
    assert c.verify() == 16 * MIB
    for name, value in old.items():
        write(microvm, value, f"{directory}/{name}")
    end(c)


def test_direct_compaction_makes_huge_pages_in_a_zone_in_pieces(microvm):
    write(microvm, "always", "/sys/kernel/mm/transparent_hugepage/defrag")
    before = numbers(microvm, "/proc/vmstat")
    c = Load(microvm, "pieces", 64 * MIB).load("compact", 56, 16)
    c.wait("ready")
    microvm.guest.run("for i in 1 2 3; do echo 1 > /proc/sys/vm/compact_memory; done")
    after = numbers(microvm, "/proc/vmstat")
    print({k: after[k] - before[k] for k in after if k.startswith("compact_")})
    assert after["compact_success"] > before["compact_success"]
    assert huge(c) >= 8 * MIB
    assert not where(c)[1]
    assert c.verify() == 28 * MIB
    write(microvm, "madvise", "/sys/kernel/mm/transparent_hugepage/defrag")
    end(c)


@pytest.mark.parametrize("way", ["async", "sqpoll"])
def test_io_uring_reads_into_the_zone(microvm, way):
    c = Load(microvm, "ring", 48 * MIB)
    microvm.guest.run("mkdir -p /scratch/ring && mm-load make /scratch/ring/file 16"
                      " && echo 3 > /proc/sys/vm/drop_caches")
    c.load(way, "/scratch/ring/file")
    c.wait("ready")
    inside, outside = where(c, kinds=("file",))
    assert inside == 16 * MIB and not outside, (inside, outside)
    assert c.verify() == 16 * MIB
    end(c)


# Pages that cannot move

def test_locked_memory_stays_in_the_zone(microvm):
    c = Load(microvm, "locked", 32 * MIB).load("mlock", 8)
    c.wait("ready")
    assert statistics(c)["unevictable"] >= 8 * MIB
    inside, outside = where(c)
    assert inside >= 8 * MIB and not outside
    c.zone.reclaim(with_cache=True)
    assert c.verify() == 8 * MIB
    report = c.zone.destroy(with_tasks=True)
    assert report.migrated >= 8 * MIB
    assert statistics(c)["unevictable"] >= 8 * MIB
    assert c.verify() == 8 * MIB
    c.stop()
    c.remove()


def test_a_long_term_pin_leaves_the_zone(microvm):
    """As from ZONE_MOVABLE: buffers that somebody keeps must not keep the zone."""
    c = Load(microvm, "keeper", 32 * MIB).load("register", 8)
    c.wait("ready")
    inside, outside = where(c)
    assert outside == 8 * MIB and inside <= SLACK, (inside, outside)
    c.zone.destroy(with_tasks=True)
    assert c.verify() == 8 * MIB
    c.stop()
    c.remove()


def test_pages_in_a_pipe_hold_up_destroy_until_they_go(microvm):
    c = Load(microvm, "pipe", 32 * MIB).load("splice", 512)
    c.wait("ready")
    zone = c.zone.id
    with pytest.raises(czone.Error) as e:
        c.zone.destroy(with_tasks=True)
    assert e.value.errno == 16
    s = c.zone.stats()
    print(s, e.value.report)
    assert e.value.report.stuck_pinned + e.value.report.stuck_other >= 512 * 1024
    assert s.used >= 512 * 1024 and s.used + s.free_backed + s.free_unbacked == s.size
    assert zone in [z.id for z in microvm.vm.zones()]
    assert c.verify() == 512 * 1024
    c.let_go()
    c.zone.destroy(with_tasks=True)
    assert zone not in [z.id for z in microvm.vm.zones()]
    assert c.verify() == 512 * 1024
    c.stop()
    c.remove()


# Limits

def test_a_memory_limit_below_the_zones_size(microvm, lru):
    c = Container(microvm, "limited", 64 * MIB)
    write(microvm, "24M", f"/sys/fs/cgroup{c.cgroup}/memory.max")
    microvm.guest.run("container start limited sh -c "
                      "'dd if=/dev/zero of=/data/big bs=1M count=48 2>/dev/null; echo written;"
                      " sleep 1; exec workload anon=48'")
    c.wait("written")
    assert c.zone.stats().used <= 25 * MIB
    assert events(c)["oom_kill"] == 0
    until("the limit", lambda: events(c)["oom_kill"] >= 1)
    assert c.zone.stats().used <= 25 * MIB and "ready" not in c.log()
    end(c)


def test_cpus_come_and_go(microvm):
    before = microvm.pool()
    run = microvm.guest.run
    all_of_them = [Container(microvm, f"cpu{i}", 40 * MIB).workload(anon=24, file=4, thp=i % 2,
                                                                    free=50, seed=i)
                   for i in range(3)]
    for _ in range(5):
        run("echo 0 > /sys/devices/system/cpu/cpu1/online && sleep 0.3"
            " && echo 1 > /sys/devices/system/cpu/cpu1/online && sleep 0.3")
    for c in all_of_them:
        c.wait("ready")
    run("echo 0 > /sys/devices/system/cpu/cpu1/online")
    for c in all_of_them:
        c.idle()
        s = c.zone.stats()
        assert s.used + s.free_backed + s.free_unbacked == s.size
        assert s.used <= 19 * MIB, "pages are left on the lists of a CPU that is off"
        assert c.zone.reclaim() >= 9 * MIB
    run("echo 1 > /sys/devices/system/cpu/cpu1/online")
    for c in all_of_them:
        assert c.verify() == 16 * MIB
    end(*all_of_them)
    assert microvm.pool(at_most=before + SLACK) <= before + SLACK


# The VM's own memory is short: zones are no help

def test_reclaim_of_the_vm_leaves_zones_alone(microvm, swap, lru):
    c = Container(microvm, "aside", 64 * MIB).workload(anon=16, file=16)
    c.wait("ready")
    before = numbers(microvm, "/proc/vmstat")
    # More page cache than the VM has boot memory; the disk is sparse, so this is fast.
    microvm.guest.run("dd if=/dev/vdb of=/dev/null bs=1M 2>/dev/null")
    after = numbers(microvm, "/proc/vmstat")
    stolen = sum(after[k] - before[k] for k in ("pgsteal_kswapd", "pgsteal_direct"))
    assert stolen * PAGE >= 16 * MIB, "no pressure: nothing is shown"
    s = statistics(c)
    assert s["file"] >= 16 * MIB and s["anon"] >= 16 * MIB, s
    assert not where(c)[1]
    assert c.verify() == 32 * MIB
    end(c)


def test_the_vms_oom_kills_nobody_for_his_zone(microvm):
    """The one with the most memory has it in a zone, where it is no help to anybody."""
    c = Container(microvm, "large", 512 * MIB).workload(anon=448, thp=1)
    c.wait("ready")
    hog = Container(microvm, "outside").workload(anon=600)
    until("the OOM killer", lambda: events(hog)["oom_kill"] >= 1 or events(c)["oom_kill"] >= 1)
    assert events(hog)["oom_kill"] == 1 and events(c)["oom_kill"] == 0
    assert c.verify() == 448 * MIB
    end(hog, c)


# Numbers

def zoneinfo(microvm):
    """name -> {free, managed, present, ...} of each zone that has pages."""
    text = microvm.guest.run("cat /proc/zoneinfo")
    zones = {}
    for part in re.split(r"^Node \d+, zone +", text, flags=re.M)[1:]:
        name, rest = part.split("\n", 1)
        zones[name.strip()] = {
            k: int(v) for k, v in re.findall(r"^ +(?:pages )?(\w+) +(\d+)$", rest, re.M)}
    return zones


def buddyinfo(microvm):
    """name -> free pages."""
    rows = [x.split() for x in microvm.guest.run("cat /proc/buddyinfo").splitlines()]
    return {x[3]: sum(int(n) << order for order, n in enumerate(x[4:])) for x in rows}


def test_meminfo_moves_by_the_zone(microvm):
    def meminfo():
        return numbers(microvm, "/proc/meminfo")
    noise = 6 << 10     # KiB: what the kernel has for a container, and the shells here
    write(microvm, 3, "/proc/sys/vm/drop_caches")
    first = meminfo()
    c = Container(microvm, "counted", 256 * MIB)
    second = meminfo()
    assert second["MemTotal"] - first["MemTotal"] == 256 << 10
    assert abs(second["MemFree"] - first["MemFree"] - (256 << 10)) <= noise
    assert abs(second["MemAvailable"] - first["MemAvailable"]) <= noise
    c.workload(anon=32, file=32)
    c.wait("ready")
    third = meminfo()
    assert abs(second["MemFree"] - third["MemFree"] - (64 << 10)) <= noise
    assert abs(third["AnonPages"] - second["AnonPages"] - (32 << 10)) <= noise
    assert abs(third["Cached"] - second["Cached"] - (32 << 10)) <= noise
    # Nobody else can have what the zone has free, or holds as cache.
    assert abs(third["MemAvailable"] - second["MemAvailable"]) <= noise
    end(c)
    last = meminfo()
    assert last["MemTotal"] == first["MemTotal"]
    assert abs(last["MemFree"] - first["MemFree"]) <= noise
    assert abs(last["MemAvailable"] - first["MemAvailable"]) <= noise


def test_zoneinfo_and_buddyinfo_list_each_zone(microvm):
    containers = [Container(microvm, f"listed{i}", size * MIB).workload(anon=12)
                  for i, size in enumerate((16, 32))]
    for c in containers:
        c.wait("ready")
    zones, free = zoneinfo(microvm), buddyinfo(microvm)
    for c in containers:
        s, z = c.zone.stats(), zones[f"czone{c.zone.id}"]
        assert z["managed"] == z["present"] == s.size // PAGE
        assert z["spanned"] >= z["managed"]
        assert z["free"] == z["nr_free_pages"]
        lists = sum(map(int, re.findall(r"^\s+count:\s+(\d+)$", microvm.guest.run(
            f"awk '/zone +/ {{ on = $4 == \"czone{c.zone.id}\" }} on' /proc/zoneinfo"), re.M)))
        assert abs(z["free"] + lists - (s.free_backed + s.free_unbacked) // PAGE) <= 64
        assert abs(free[f"czone{c.zone.id}"] - z["free"]) <= 64
    names = [f"czone{c.zone.id}" for c in containers]
    end(*containers)
    assert not set(names) & set(zoneinfo(microvm))


def test_memory_stat_is_what_the_container_has(microvm):
    c = Container(microvm, "charged", 64 * MIB).workload(anon=16, shm=8, file=8)
    c.wait("ready")
    until("the per-cpu statistics", lambda: statistics(c)["anon"] >= 16 * MIB, limit=10)
    s = statistics(c)
    zone = c.zone.stats()
    assert 16 * MIB <= s["anon"] <= 16 * MIB + SLACK
    image = 2 * MIB     # of the programs, if nobody has it in the cache already
    assert 16 * MIB <= s["file"] <= 16 * MIB + SLACK + image
    assert 8 * MIB <= s["shmem"] <= 8 * MIB + SLACK
    assert abs(s["anon"] + s["file"] - zone.used) <= SLACK + MIB, (s, zone)
    end(c)


# Memory failure: last, for what has failed stays.

def test_a_page_taken_out_of_use_is_replaced(microvm):
    c = Load(microvm, "replaced", 32 * MIB).load("offline", 8)
    c.wait("ready")
    assert numbers(microvm, "/proc/meminfo")["HardwareCorrupted"] == 4
    inside, outside = where(c)
    assert inside >= 8 * MIB and not outside
    assert c.verify() == 8 * MIB
    bad_page(microvm, c)


def test_a_page_that_fails_costs_one_block(microvm):
    c = Load(microvm, "failed", 32 * MIB).load("poison", 8)
    c.wait("ready")
    assert c.verify() == 4 * MIB
    bad_page(microvm, c)


def bad_page(microvm, c):
    c.stop()
    c.remove()
    before = microvm.pool()
    used = c.zone.stats().used
    assert used >= PAGE
    with pytest.raises(czone.Error) as e:
        c.zone.destroy()
    assert e.value.errno == 16
    print(e.value.report)
    assert e.value.report.stuck_poisoned == PAGE
    assert e.value.report.stuck_pinned == e.value.report.stuck_other == 0
    s = c.zone.stats()
    assert s.size == czone.BLOCK, "the rest of the zone is to come back"
    assert before - microvm.pool() >= 4 * MIB
    # Again, and to the same effect: nothing is lost by trying.
    with pytest.raises(czone.Error):
        c.zone.destroy()
    assert c.zone.stats().size == czone.BLOCK
