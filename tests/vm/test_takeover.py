# SPDX-License-Identifier: LGPL-2.1-or-later
"""The process that serves a VM dies; another one goes on."""
import errno
import os
import pathlib
import signal
import tempfile
import time

import pytest

from microvm import MIB, SPLAT, Container, Guest
from server import Server


class Remote:
    """What Container wants of a MicroVM, by way of a server process."""

    def __init__(self, guest, vm):
        self.guest, self.vm = guest, vm


class Zones:
    """What Container wants of a VM."""

    def __init__(self, server):
        self.server = server

    def create(self, size, **options):
        return self.server().ask(f"vm.create({size}, **{options!r}).id")


class Case:
    """A VM, its server of the moment, and a container in a zone."""

    def __init__(self, directory):
        self.directory = directory
        self.server = Server("start", directory)
        self.pid = self.server.ask("vm.stats().pid")
        self.guest = Guest(pathlib.Path(directory) / "exec")
        self.container = Container(Remote(self.guest, Zones(lambda: self.server)), "one", 96 * MIB)
        self.container.workload(anon=64, free=50, seed=1)
        self.container.wait("ready")
        self.zone = self.container.zone

    def next_server(self):
        self.server.kill()
        self.server = Server("attach", self.directory)
        return self.server

    def pool(self):
        return self.server.ask("vm.stats().host_pool")

    def all_is_well(self):
        """The container lives with its data, and its zone can be given back whole."""
        assert self.container.verify() > 0
        assert self.zone in self.server.ask("[z.id for z in vm.zones()]")
        self.container.stop()
        self.container.remove()
        for zone in self.server.ask("[z.id for z in vm.zones()]"):
            self.server.ask(f"str(vm.lookup({zone}).destroy())")
        self.server.ask("vm.reclaim()")
        deadline = time.monotonic() + 20
        while self.pool():
            assert time.monotonic() < deadline, self.pool()
            self.server.ask("vm.reclaim()")
        log = (pathlib.Path(self.directory) / "vm.console").read_text(errors="replace")
        assert not [line for line in log.splitlines() if SPLAT.search(line)], log[-3000:]

    def end(self):
        self.server.kill()
        try:
            os.kill(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


@pytest.fixture
def case():
    with tempfile.TemporaryDirectory(prefix="czone-t.") as directory:
        c = Case(directory)
        try:
            yield c
        finally:
            c.end()


def test_killed_while_nothing_happens(case):
    freed = case.container.idle()
    server = case.next_server()
    assert server.ask("vm.stats().pid") == case.pid
    before = case.pool()
    returned = server.ask(f"vm.lookup({case.zone}).reclaim()")
    assert returned >= 0.99 * freed and before - case.pool() >= 0.99 * freed
    case.all_is_well()


def test_killed_at_any_moment_of_reclaim_create_and_destroy(case):
    for delay in (0, 0.5, 1, 2, 4, 8, 16, 32, 64):
        # dirty a zone of another container, so that there is something to give back
        other = Container(Remote(case.guest, Zones(lambda: case.server)), "two", 96 * MIB)
        other.workload(anon=64, seed=2).wait("ready")
        other.stop()
        other.remove()
        case.server.send(f"[vm.lookup({other.zone}).destroy(), vm.reclaim(),"
                         f" [vm.create({8 * MIB}).id for i in range(4)],"
                         f" [z.destroy() for z in vm.zones() if z.id != {case.zone}]]")
        time.sleep(delay / 1000)
        server = case.next_server()
        for zone in server.ask("[z.id for z in vm.zones()]"):
            if zone != case.zone:
                server.ask(f"str(vm.lookup({zone}).destroy())")
        case.container.verify()
    case.all_is_well()


def test_killed_while_the_guest_reports(case):
    """The reports that nobody answered are seen again by the next process."""
    for _ in range(5):
        case.container.idle()
        case.server.send(f"vm.lookup({case.zone}).reclaim()")
        case.next_server()
        case.container.verify()
    case.server.ask(f"vm.lookup({case.zone}).reclaim()")
    stats = case.server.ask(f"vars(vm.lookup({case.zone}).stats())")
    assert stats["free_backed"] <= MIB, stats
    case.all_is_well()


TELL, TAKE = 1, 2   # die-at.c


def test_killed_at_each_step_of_create_reclaim_and_destroy(case):
    """Before and after the request is told, a range is taken, the answer is told."""
    reached = set()
    for request, what, number in [("create", TELL, 1)] + [
            (request, what, number) for request in ("reclaim", "destroy")
            for what, number in ((TELL, 1), (TELL, 2), (TAKE, 1), (TAKE, 2))]:
        for after in (0, 1):
            other = Container(Remote(case.guest, Zones(lambda: case.server)), "two", 32 * MIB)
            other.workload(anon=16, free=50, chunk=64, seed=number).wait("ready")
            other.idle()
            if request == "destroy":
                other.stop()
                other.remove()
            line = {"create": f"vm.create({8 * MIB}).id", "reclaim": f"vm.lookup({other.zone}).reclaim()",
                    "destroy": f"str(vm.lookup({other.zone}).destroy())"}[request]
            case.server.send(f"[die({what}, {after}, {number}), {line}]")
            if not case.server.process.stdout.readline():   # it has died
                reached.add((request, what, number, after))
            case.next_server()
            case.container.verify()
            zones = case.server.ask("[z.id for z in vm.zones()]")
            assert case.zone in zones
            assert request == "destroy" or other.zone in zones, "a zone is lost"
            if request != "destroy":
                assert other.verify() == 8 * MIB
                case.server.ask(f"vm.lookup({other.zone}).reclaim()")
                stats = case.server.ask(f"vars(vm.lookup({other.zone}).stats())")
                assert stats["free_backed"] <= MIB, stats
                assert stats["host_resident"] <= stats["used"] + MIB, stats
                other.stop()
                other.remove()
            for zone in case.server.ask("[z.id for z in vm.zones()]"):
                if zone != case.zone:
                    case.server.ask(f"str(vm.lookup({zone}).destroy())")
    print(sorted(reached))
    # each request at least before and after it was told, and the others around a punch
    assert {("create", TELL, 1, a) for a in (0, 1)} <= reached
    assert {(r, w, 1, a) for r in ("reclaim", "destroy") for w in (TELL, TAKE) for a in (0, 1)} <= reached
    case.all_is_well()


def test_one_that_lives_is_left_alone(case):
    with pytest.raises(RuntimeError, match="EBUSY|in use|uses this state_dir|serves"):
        Server("attach", case.directory)
    case.all_is_well()


def test_detach_and_attach(case):
    error, _ = case.server.ask(f"(lambda z: (vm.detach(), attempt(z.stats))[1])(vm.lookup({case.zone}))")
    assert error == "ESHUTDOWN"
    case.server.process.communicate(timeout=60)
    assert case.server.process.returncode == 0
    case.server = Server("attach", case.directory)
    case.all_is_well()


def test_a_guest_without_a_driver_is_told_of_in_time(case):
    device = case.guest.run("basename $(ls -d /sys/bus/virtio/drivers/virtio_czone/virtio*)").strip()
    case.guest.run(f"echo {device} > /sys/bus/virtio/drivers/virtio_czone/unbind")
    case.server.kill()
    begin = time.monotonic()
    with pytest.raises(RuntimeError, match=f"Errno {errno.ETIMEDOUT}"):
        Server("attach", case.directory, timeout=2)
    assert time.monotonic() - begin < 30
    # with nobody to serve it, the device would keep its driver waiting
    case.guest.run(f"(sleep 2; echo {device} > /sys/bus/virtio/drivers/virtio_czone/bind) >/dev/null 2>&1 &")
    case.next_server()
    case.all_is_well()


def test_a_vm_that_is_not_there(case):
    case.server.ask("vm.stop()")
    case.server.kill()
    with pytest.raises(RuntimeError, match="no VM vm runs"):
        Server("attach", case.directory)
