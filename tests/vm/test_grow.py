# SPDX-License-Identifier: LGPL-2.1-or-later
"""The pool of a running VM grows: several regions in the guest, several files on the host."""
import os
import pathlib
import re
import signal
import tempfile
import time

import pytest

from maps import Maps
from microvm import MIB, SPLAT, Container, Guest
from server import Server

FIRST, SECOND = 384 * MIB, 512 * MIB     # neither as large as the boot memory


def usable(size):
    """Without the memory map, of 1/64 in whole blocks."""
    return size - -(-size // 64 // (4 * MIB)) * 4 * MIB


class VM:
    """What Container wants of a MicroVM, and of its VM; served by a process of its own."""

    def __init__(self, directory, pool_dir):
        self.directory, self.pool_dir = directory, pool_dir
        # a file pool: what is added must be of that kind, too
        self.server = Server("start", directory, pool_bytes=FIRST, pool_backing=1, pool_dir=pool_dir)
        self.pid = self.stats()["pid"]
        self.guest = Guest(pathlib.Path(directory) / "exec")
        self.vm = self

    def ask(self, line):
        return self.server.ask(line)

    def attempt(self, line):
        """The errno and text of a failure, or None and the result."""
        return self.ask(f"attempt(lambda: {line})")

    def create(self, size, **options):
        return self.ask(f"vm.create({size}, **{options!r}).id")

    def stats(self, zone=None):
        return self.ask(f"vars({f'vm.lookup({zone})' if zone else 'vm'}.stats())")

    def ranges(self, zone):
        return [tuple(r) for r in self.ask(f"vm.lookup({zone}).ranges()")]

    def destroy(self, zone):
        return self.ask(f"vars(vm.lookup({zone}).destroy())")

    def files(self, wanted=None):
        """How many files of the pool's kind QEMU has, none of them leaked.

        It closes that of a failed addition a moment after it has answered: until there are as many as wanted.
        """
        end = time.monotonic() + 10
        while (n := self._files()) != wanted and wanted is not None and time.monotonic() < end:
            time.sleep(0.01)
        return n

    def _files(self):
        fds = pathlib.Path(f"/proc/{self.pid}/fd")
        links = []
        for fd in fds.iterdir():
            try:
                links.append(os.readlink(fd))
            except OSError:
                pass
        return sum("(deleted)" in x and self.pool_dir in x for x in links)

    def settled(self):
        """Nothing is left behind the pools, and the memory maps have gone, too."""
        end = time.monotonic() + 30
        while self.stats()["host_pool"]:
            assert time.monotonic() < end, self.stats()
            self.ask("vm.reclaim()")
            time.sleep(0.2)

    def end(self):
        self.server.kill()
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        log = (pathlib.Path(self.directory) / "vm.console").read_text(errors="replace")
        assert not [line for line in log.splitlines() if SPLAT.search(line)], log[-3000:]


@pytest.fixture(scope="module")
def vm():
    with tempfile.TemporaryDirectory(prefix="czone-t.") as directory, \
            tempfile.TemporaryDirectory(prefix="czone-pool.", dir="/dev/shm") as pool_dir:
        v = VM(directory, pool_dir)
        try:
            yield v
        finally:
            v.end()


def test_a_zone_that_the_first_pool_has_no_room_for(vm):
    small = Container(vm, "small", 64 * MIB).workload(anon=32, seed=1)
    small.wait("ready")
    before = vm.stats()
    assert before["pool_size"] == usable(FIRST)
    assert vm.attempt(f"vm.create({352 * MIB})")[0] == "ENOSPC"

    vm.ask(f"vm.grow_pool({SECOND})")
    after = vm.stats()
    assert after["pool_size"] == usable(FIRST) + usable(SECOND)
    assert after["pool_used"] == before["pool_used"] and after["host_pool"] == before["host_pool"], \
        "what was added costs the host nothing"
    assert vm.files() == 2

    large = Container(vm, "large", 352 * MIB)
    (start, size), = vm.ranges(large.zone)
    (first, _), = vm.ranges(small.zone)
    assert size == 352 * MIB and start > first + FIRST - 64 * MIB, "one range, in the new region"
    large.workload(anon=200, free=50, thp=1, seed=2)
    large.wait("ready")
    assert vm.stats(large.zone)["host_resident"] >= 200 * MIB
    assert vm.stats()["host_pool"] >= 232 * MIB, "both files are counted"

    maps = Maps(vm.guest, vm.pid)
    assert len(maps.pools) == 2
    maps.check_same()
    freed = large.idle()
    assert vm.ask(f"vm.lookup({large.zone}).reclaim()") >= 0.99 * freed
    maps.check_same()
    assert large.verify() and small.verify()

    # in pieces of both
    wide = Container(vm, "wide", 440 * MIB)
    assert len(vm.ranges(wide.zone)) == 2
    wide.workload(anon=420, seed=3)
    wide.wait("ready")
    assert wide.verify()
    maps.check_same()
    for c in small, large, wide:
        c.stop()
        c.remove()
        vm.destroy(c.zone)
    assert maps.check_same() == 0
    maps.close()
    vm.settled()


def test_a_resize_goes_on_in_another_region(vm):
    c = Container(vm, "resized", usable(FIRST))
    c.workload(anon=usable(FIRST) // MIB - 16, seed=4)
    c.wait("ready")
    vm.ask(f"vm.lookup({c.zone}).resize({500 * MIB})")
    assert sum(size for _, size in vm.ranges(c.zone)) == 500 * MIB
    vm.ask(f"vm.lookup({c.zone}).resize({usable(FIRST)})")
    assert c.verify()
    c.stop()
    c.remove()
    vm.destroy(c.zone)
    vm.settled()


def test_another_process_finds_all_pools(vm):
    c = Container(vm, "over", 400 * MIB).workload(anon=64, free=50, seed=5)     # in the second pool
    c.wait("ready")
    freed = c.idle()
    vm.server.kill()
    vm.server = Server("attach", vm.directory)
    assert vm.stats()["pool_size"] == usable(FIRST) + usable(SECOND)
    assert vm.ask(f"vm.lookup({c.zone}).reclaim()") >= 0.99 * freed
    assert c.verify()
    c.stop()
    c.remove()
    vm.destroy(c.zone)
    # and knows how to add one
    vm.ask(f"vm.grow_pool({128 * MIB})")
    assert vm.stats()["pool_size"] == usable(FIRST) + usable(SECOND) + usable(128 * MIB)
    vm.settled()


def test_a_guest_without_a_driver_gets_it_later(vm):
    """The memory is there meanwhile; asking again does not add more of it."""
    device = vm.guest.run("basename $(ls -d /sys/bus/virtio/drivers/virtio_czone/virtio*)").strip()
    size, files = vm.stats()["pool_size"], vm.files()
    vm.guest.run(f"echo {device} > /sys/bus/virtio/drivers/virtio_czone/unbind")
    for _ in range(2):
        error, text = vm.attempt(f"vm.grow_pool({256 * MIB}, timeout=2)")
        assert error == "ETIMEDOUT" and "driver" in text, text
        assert vm.files() == files + 1
    # one at a time: the other gives up before the first one does
    patient, hasty = f"vm.grow_pool({256 * MIB}, timeout=8)", f"vm.grow_pool({256 * MIB}, timeout=2)"
    answers = vm.ask(f"together(lambda: {patient}, lambda: __import__('time').sleep(1) or {hasty})")
    assert [error for error, _ in answers] == ["ETIMEDOUT", "EBUSY"], answers
    assert "another call" in answers[1][1]
    assert vm.files() == files + 1
    vm.guest.run(f"echo {device} > /sys/bus/virtio/drivers/virtio_czone/bind")
    end = time.monotonic() + 30
    while vm.attempt("vm.stats().pool_size")[1] != size + usable(256 * MIB):
        assert time.monotonic() < end
        time.sleep(0.1)
    assert vm.files() == files + 1


def test_two_at_once_get_one_each(vm):
    """Of the same size: neither takes the other's memory, which the guest has not yet, for one that was left over."""
    size, files = vm.stats()["pool_size"], vm.files()
    call = f"lambda: vm.grow_pool({128 * MIB})"
    answers = vm.ask(f"together({call}, {call})")
    assert answers == [[None, None]] * 2, answers
    assert vm.files() == files + 2
    assert vm.stats()["pool_size"] == size + 2 * usable(128 * MIB)


def test_a_directory_that_has_gone(vm):
    os.rmdir(vm.pool_dir)
    try:
        error, text = vm.attempt(f"vm.grow_pool({128 * MIB})")
        assert error == "ENOENT" and vm.pool_dir in text, text
        assert not os.path.exists(vm.pool_dir)
    finally:
        os.mkdir(vm.pool_dir)


def test_no_room_and_nothing_left_over(vm):
    before, files = vm.stats(), vm.files()
    error, text = vm.attempt(f"vm.grow_pool({512 << 30})")
    assert error == "ENOSPC" and re.search("space|range", text), text
    for bad in 0, 64 * MIB, 1:
        assert vm.attempt(f"vm.grow_pool({bad})")[0] == "EINVAL"
    assert vm.files(files) == files
    added = 0
    while True:
        error, text = vm.attempt(f"vm.grow_pool({128 * MIB})")
        if error:
            break
        added += 1
    assert error == "ENOSPC" and "slot" in text, text
    assert added == 10, "15 in all"
    assert vm.files(files + added) == files + added
    assert vm.stats()["pool_size"] == before["pool_size"] + added * usable(128 * MIB)
    # all of them, in one zone
    c = Container(vm, "all", vm.stats()["pool_size"])
    assert len(vm.ranges(c.zone)) == 16
    c.workload(anon=256, seed=6)
    c.wait("ready")
    assert c.verify()
    c.stop()
    c.remove()
    vm.destroy(c.zone)
    vm.settled()
