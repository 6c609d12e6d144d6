# SPDX-License-Identifier: LGPL-2.1-or-later
"""Which pages are backed, and which are zero: the guest's map against the host's, page by page.

Once on host pages of 4 KiB, once on 2 MiB. Needs punch-fails.so preloaded, as CTest does it.
"""
import contextlib
import ctypes
import os
import pathlib
import re
import subprocess
import tempfile
import time

import czone
import pytest

from maps import PAGE, Maps
from microvm import MIB, Container, MicroVM

POOL = 1 << 30
LOAD_S = int(os.environ.get("CZONE_IDENTIFY_SECONDS", "15"))


def host_refuses(every):
    """Every so many punches of the host fail; 0: none."""
    try:
        ctypes.c_int.in_dll(ctypes.CDLL(None), "punch_fails").value = every
    except ValueError:
        pytest.fail("punch-fails.so is not preloaded")


@contextlib.contextmanager
def huge_tmpfs():
    """A directory whose files have host pages of 2 MiB, while the host does not make any by itself."""
    collapse = pathlib.Path("/sys/kernel/mm/transparent_hugepage/khugepaged/max_ptes_none")
    before = collapse.read_text()
    with tempfile.TemporaryDirectory(prefix="czone-pool.") as directory:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={2 * POOL},huge=always", "none", directory],
                       check=True)
        try:
            # khugepaged would fill what was given back, if enough is left around it
            collapse.write_text("0")
            yield directory
        finally:
            collapse.write_text(before)
            subprocess.run(["umount", directory], check=True)


@pytest.fixture(scope="module", params=["4k", "2m"])
def microvm(request):
    huge = request.param == "2m"
    with huge_tmpfs() if huge else contextlib.nullcontext() as pool_dir, \
            MicroVM(pool=POOL, pool_dir=pool_dir, cmdline="" if huge else "czone.boot_map=12") as vm:
        vm.huge = huge
        yield vm


@pytest.fixture(scope="module")
def maps(microvm):
    maps = Maps(microvm.guest, microvm.vm.stats().pid)
    yield maps
    maps.close()


def unknown(microvm):
    """Pages that the host may have without the guest's knowledge after a reclaim under load: on pages of 2 MiB
    a touch while the rest of its host page goes back may bring back all of it (docs/kernel.md)."""
    return 8 * 512 if microvm.huge else 0


def zero_check(container, kind, mib, seconds, seed):
    """A line that runs zero-check in a container's cgroup."""
    return (f"sh -c 'echo $$ > /sys/fs/cgroup{container.cgroup}/cgroup.procs; "
            f"exec zero-check {kind} {mib} {seconds} {seed}'")


class Checkers:
    """Processes in zones that check that new memory is zero, and that memory keeps its content."""

    def __init__(self, microvm, kinds, seconds, mib=24):
        self.microvm, self.zones, self.logs = microvm, [], []
        for i, kind in enumerate(kinds):
            c = Container(microvm, f"check{i}-{kind}", 2 * mib * MIB)
            self.zones.append(c)
            log = f"/run/check{i}.log"
            self.logs.append(log)
            microvm.guest.run(f"{zero_check(c, kind, mib, seconds, i + 1)} > {log} 2>&1 &")

    def running(self):
        return self.microvm.guest.run("pidof zero-check || true").strip() != ""

    def finish(self):
        """Pages that each has checked."""
        end = time.monotonic() + 120
        while self.running():
            assert time.monotonic() < end, "zero-check does not end"
            time.sleep(0.2)
        texts = [self.microvm.guest.run(f"cat {log}") for log in self.logs]
        checked = [re.fullmatch(r"checked pages=(\d+)\n", text) for text in texts]
        assert all(checked), texts
        return [int(m.group(1)) for m in checked]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Leave nothing to the tests that follow, whatever has failed."""
        host_refuses(0)
        self.microvm.guest.run("killall -q -9 zero-check; while pidof zero-check; do sleep 0.1; done", check=False)
        for c in self.zones:
            c.zone.destroy()
            c.remove()


def test_the_maps_are_the_same_at_rest(microvm, maps):
    cs = [Container(microvm, f"rest{i}", 96 * MIB).workload(seed=i, **load) for i, load in enumerate([
        dict(anon=32, free=50, chunk=4), dict(anon=32, free=50, chunk=64, shm=4), dict(anon=64, thp=1, free=30),
        dict(file=16, anon=4, free=25, chunk=8)])]
    for c in cs:
        c.wait("ready")
    microvm.guest.run("sync")
    assert maps.check_same() >= 144 * MIB // PAGE
    for c in cs:
        c.idle()
    maps.check_same()
    for c in cs:
        s = c.zone.stats()
        assert s.used + s.free_backed == s.host_resident, s
    cs[0].zone.reclaim(4 * MIB)
    cs[1].zone.reclaim()
    maps.check_same()
    assert maps.zero() & maps.backed() == 0 or microvm.huge
    microvm.vm.reclaim()
    left = maps.check_same()
    for c in cs:
        c.verify()
    assert maps.check_same() == left, "reading what is there takes no memory of the host"
    for c in cs:
        c.stop()
        c.remove()
        c.zone.destroy()
    assert maps.check_same() == 0


def test_the_maps_are_the_same_under_load(microvm, maps):
    """Between two readings of the guest's map: pages that no report touched did not change."""
    with Checkers(microvm, ["anon", "thp", "shm"], 2 * LOAD_S) as checkers:
        rounds = {False: 0, True: 0}
        end = time.monotonic() + 2 * LOAD_S
        while time.monotonic() < end - 2 and checkers.running():
            reclaim = end - time.monotonic() < LOAD_S
            before = microvm.vm.stats().returned + sum(c.zone.stats().returned for c in checkers.zones)
            first = maps.backed()
            if reclaim:
                for c in checkers.zones:
                    c.zone.reclaim()
            host = maps.host()
            second = maps.backed()
            after = microvm.vm.stats().returned + sum(c.zone.stats().returned for c in checkers.zones)
            # A page between its allocation and its first byte: one folio of each process at most.
            moving = 3 * 512
            # A page that is backed twice and was not in between went to the host in between.
            flipped = (after - before) // PAGE
            assert reclaim or not flipped
            assert (first & second & ~host).bit_count() <= moving + flipped
            assert (host & ~first & ~second).bit_count() <= flipped
            rounds[reclaim] += 1
        print(f"{rounds[False]} comparisons without reclaim, {rounds[True]} with")
        assert rounds[False] >= 2 and rounds[True] >= 2
        print("pages checked:", checkers.finish())
        maps.check_same(more=unknown(microvm))
    maps.check_same()


def test_counters_add_up_at_any_moment(microvm):
    with Checkers(microvm, ["anon", "thp", "shm", "anon"], LOAD_S) as checkers:
        polls = 0
        while checkers.running():
            for c in checkers.zones:
                s = c.zone.stats()
                polls += 1
                assert s.size == 48 * MIB
                assert s.used + s.free_backed + s.free_unbacked == s.size, s
                if polls % 8 == 0:
                    c.zone.reclaim(2 * MIB)
        checkers.finish()
        for c in checkers.zones:
            s = c.zone.stats()
            assert 0 <= s.host_resident - s.used - s.free_backed <= unknown(microvm) * PAGE, s
        print(f"{polls} polls")
        assert polls >= 20


def test_new_memory_is_zero_whatever_was_there(microvm, maps):
    """Zones come and go over the same blocks, all is reclaimed all the time, and the host refuses some of it."""
    with Checkers(microvm, ["anon", "thp", "shm", "anon", "thp"], 2 * LOAD_S, mib=16) as checkers:
        refused = returned = turns = 0
        while checkers.running():
            host_refuses(3 if turns % 4 == 1 else 0)
            for c in checkers.zones:
                try:
                    returned += c.zone.reclaim()
                except czone.Error:
                    refused += 1
            dirty = Container(microvm, f"dirty{turns}", 32 * MIB).workload(anon=24, thp=turns % 2)
            dirty.wait("ready")
            dirty.stop()
            dirty.remove()
            try:
                dirty.zone.destroy()
            except czone.Error:
                refused += 1
            # over the same blocks
            after = Container(microvm, f"after{turns}", 32 * MIB)
            assert re.fullmatch(r"checked pages=\d+\n", microvm.guest.run(zero_check(after, "anon", 16, 1, turns)))
            after.remove()
            try:
                after.zone.destroy()
            except czone.Error:
                refused += 1
            turns += 1
        host_refuses(0)
        print(f"{turns} turns, {returned // PAGE} pages returned, {refused} refusals,",
              "pages checked:", checkers.finish())
        assert refused and returned and turns >= 3
    microvm.vm.reclaim()
    maps.check_same()


def test_a_refused_batch_leaves_the_map_as_it_was(microvm, maps):
    c = Container(microvm, "refused", 64 * MIB).workload(anon=32, free=50, chunk=8)
    c.wait("ready")
    c.idle()
    before, stats = maps.backed(), c.zone.stats()
    host_refuses(1)
    try:
        with pytest.raises(czone.Error):
            c.zone.reclaim()
    finally:
        host_refuses(0)
    assert maps.backed() == before
    assert c.zone.stats() == stats
    maps.check_same()
    assert c.zone.reclaim() >= 16 * MIB
    maps.check_same()
    c.verify()
    c.stop()
    c.remove()
    c.zone.destroy()


@pytest.mark.parametrize("chunk", [0, 512, 16, 4])
def test_backed_pages_are_used_first(microvm, chunk):
    """What is free and backed serves before anything that would be a fault on the host."""
    c = Container(microvm, f"first{chunk}", 128 * MIB).workload(anon=64, free=75, chunk=chunk)
    c.wait("ready")
    c.idle()
    c.zone.reclaim(24 * MIB)
    before = c.zone.stats()
    assert before.free_backed >= 16 * MIB, before
    want = before.free_backed // MIB - 3    # less what per-cpu lists may hide, 256 pages of each CPU, and the rest
    microvm.guest.run(f"container start first{chunk} workload anon={want} && sleep 0.5; "
                      f"while ! grep -q ready /run/c/first{chunk}.log; do sleep 0.1; done", limit=60)
    time.sleep(0.5)
    after = c.zone.stats()
    grown = after.host_resident - before.host_resident
    print(f"free and backed {before.free_backed // PAGE}, taken {want * MIB // PAGE}, grown {grown // PAGE} pages")
    assert grown <= 2 * 256 * PAGE
    c.stop()
    c.remove()
    c.zone.destroy()


def test_boot_memory(microvm, maps):
    """By option the kernel knows its boot memory in the same way, once that has been with the host."""
    if microvm.huge:
        assert microvm.vm.stats().boot_free_backed is None
        pytest.skip("without czone.boot_map")
    boot = 256 * MIB
    fd = maps._open(microvm.vm.stats().pid, boot)

    def guest():
        return maps.read(0, boot, "backed")

    def host():
        return maps.resident(fd, boot)

    def compare(known):
        """Of these pages, those that did not change meanwhile are the same on both sides."""
        first, there, second = guest(), host(), guest()
        stable = known & ~(first ^ second)
        assert stable.bit_count() > 0.9 * known.bit_count()
        wrong = (first ^ there) & stable
        assert not wrong, f"{(wrong & first).bit_count()} pages are not resident that the guest counts " \
            f"as backed, {(wrong & ~first).bit_count()} are that it does not"
        return (first & stable).bit_count()

    assert microvm.vm.stats().boot_free_backed <= microvm.vm.stats().boot_free
    microvm.vm.reclaim()
    stats = microvm.vm.stats()
    known = ~guest() & ((1 << boot // PAGE) - 1)    # what the host has taken at least once
    print(f"{known.bit_count()} pages known, {stats.boot_free // PAGE} free")
    assert known.bit_count() * PAGE >= 0.8 * stats.boot_free
    before = compare(known)

    microvm.guest.run("dd if=/dev/zero of=/dev/shm/file bs=1M count=48 2>/dev/null")
    used = microvm.vm.stats()
    assert compare(known) - before >= 40 * MIB // PAGE
    assert used.boot_free_backed <= stats.boot_free_backed + 4 * MIB
    microvm.guest.run("rm /dev/shm/file")
    freed = microvm.vm.stats()
    assert freed.boot_free_backed >= used.boot_free_backed + 44 * MIB, (used, freed)
    compare(known)
    assert microvm.vm.reclaim() >= 40 * MIB
    after = microvm.vm.stats()
    assert after.boot_free_backed <= freed.boot_free_backed - 40 * MIB, (freed, after)
    compare(known)
    assert microvm.vm.reclaim() <= 4 * MIB, "nothing is reported that the host has nothing behind"
    os.close(fd)
