# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs that die, hang, reboot and run out of room, in a process that serves others, too.

After each fault: every call has ended in time with an error that says what happened, nothing of
the VM is left in this process, and a second VM has noticed nothing.
"""
import collections
import contextlib
import errno
import functools
import gc
import os
import pathlib
import resource
import signal
import subprocess
import tempfile
import threading
import time

import czone
import libvirt
import libvirt_qemu
import pytest

import microvm as support
from microvm import MIB, Container, Guest, MicroVM

TIMEOUT = 3     # of a request here, where it has one; others have 30 s
GRACE = 10      # for a machine that is busy


def until(condition, what, limit=60):
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, f"after {limit} s: {what}"
        time.sleep(0.1)


class Leaks:
    """What this process has: descriptors, the library's threads, and files of its VMs."""

    def __init__(self):
        self.before = self.now()

    @staticmethod
    def now():
        links = []
        for fd in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                link = os.readlink(f"/proc/self/fd/{fd}")
                # numbers of sockets and the like differ
                links.append(link.split(":[")[0] if ":[" in link else link)
        threads = []
        for task in pathlib.Path("/proc/self/task").iterdir():
            with contextlib.suppress(OSError):
                threads.append((task / "comm").read_text().strip())
        files = [str(p) for p in pathlib.Path(support.STATE.name).rglob("*")
                 if p.suffix not in (".console", ".log") and p.name != "master-key.aes"]
        return sorted(links), sorted(t for t in threads if t.startswith("czone")), \
            len(threads), sorted(files)

    def none(self):
        """Nothing has been added. libvirt ends the threads and files of a VM a little later."""
        end = time.monotonic() + 30
        while True:
            gc.collect()    # an exception's frames may hold a handle
            now = self.now()
            if all(len(a) <= len(b) for a, b in zip((now[0], now[1], now[3]),
                                                    (self.before[0], self.before[1], self.before[3]))) \
                    and now[2] <= self.before[2]:
                return
            if time.monotonic() > end:
                break
            time.sleep(0.2)
        fds, ours, files = (sorted((collections.Counter(a) - collections.Counter(b)).elements())
                            for a, b in
                            ((now[0], self.before[0]), (now[1], self.before[1]),
                             (now[3], self.before[3])))
        pytest.fail(f"left: descriptors {len(now[0])} for {len(self.before[0])}: {fds}, threads "
                    f"{now[2]} for {self.before[2]}: {ours}, files {files}")


@functools.lru_cache
def embedded():
    """One connection for all: each registers the driver anew, and libvirt has room for few."""
    return libvirt.open(f"qemu:///embed?root={support.STATE.name}/libvirt")


def domain_of(m):
    """For what only libvirt can do to a VM."""
    return embedded().lookupByName(m.name)


class Bystander:
    """The VM that has nothing to do with it."""

    def __init__(self, m):
        self.m = m
        self.container = Container(m, "bystander", 32 * MIB).workload(anon=8)
        self.container.wait("ready")

    def works(self):
        assert self.container.verify() == 8 * MIB
        zone = self.m.vm.create(8 * MIB)
        assert zone.stats().size == 8 * MIB
        zone.destroy()
        self.m.vm.reclaim()


@pytest.fixture(scope="module")
def bystander(microvm):
    b = Bystander(microvm)
    # what libvirt opens for its second connection and when the first VM dies, and keeps
    with MicroVM(pool=128 * MIB, vcpus=1) as m:
        domain_of(m).info()
        os.kill(m.vm.stats().pid, signal.SIGKILL)
    yield b
    b.works()


@pytest.fixture(autouse=True)
def others_are_untouched(bystander):
    bystander.works()
    yield
    bystander.works()


class Victim(MicroVM):
    """A VM with something to lose."""

    def __init__(self, **options):
        # a VM that stands still is noticed by its kernel afterwards
        super().__init__(pool=1 << 30, vcpus=1, cmdline="rcupdate.rcu_cpu_stall_suppress=1",
                         **options)
        self.prepare()

    def prepare(self):
        self.idle = Container(self, "idle", 64 * MIB).workload(anon=32, free=50, chunk=64)
        self.idle.wait("ready")
        self.idle.idle()
        self.guest.run("container create other")
        self.spare, self.doomed = (self.vm.create(8 * MIB) for _ in range(2))

    def requests(self, timeout):
        """Every request that a VM has: name to call."""
        t = {"timeout": timeout}
        return {
            "create": lambda: self.vm.create(8 * MIB, **t),
            "attach": lambda: self.spare.attach_cgroup("/c/other", **t),
            "resize": lambda: self.spare.resize(16 * MIB, **t),
            "reclaim": lambda: self.idle.zone.reclaim(**t),
            "vm-reclaim": lambda: self.vm.reclaim(**t),
            "set-idle": lambda: self.idle.zone.set_idle_return(None, **t),
            "destroy": lambda: self.doomed.destroy(**t),
            "stats": self.vm.stats,
            "zone-stats": self.idle.zone.stats,
            "ranges": self.idle.zone.ranges,
            "list": self.vm.zones,
            "lookup": lambda: self.vm.lookup(self.idle.zone.id),
        }

    def let_go(self):
        """Handles on zones are handles on the VM."""
        self.idle = self.spare = self.doomed = None
        self.guest.socket.close()

    def signal(self, number):
        os.kill(self.pid, number)

    def works(self, verify=True):
        """All of it, and what requests have left behind that ended too early is taken away."""
        until(self.answers, "the device does not work")
        keep = {self.idle.zone.id}
        for zone in self.vm.zones():
            if zone.id not in keep:
                zone.destroy()
        if verify:
            assert self.idle.verify() == 16 * MIB
        self.idle.zone.reclaim()
        assert self.idle.zone.stats().free_backed <= MIB
        self.spare, self.doomed = (self.vm.create(8 * MIB) for _ in range(2))

    def answers(self):
        try:
            return self.vm.stats().pool_size > 0
        except czone.Error as e:
            assert e.errno in (errno.ENOTCONN, errno.ETIMEDOUT, errno.EPROTO), e
            return False


def all_at_once(requests, meanwhile):
    """Begin all of them, do something, and wait: {name: (errno, seconds)}."""
    results = {}

    def one(name, call):
        start = time.monotonic()
        try:
            call()
            results[name] = 0, time.monotonic() - start
        except czone.Error as e:
            results[name] = e.errno, time.monotonic() - start
            assert str(e), "an error without a reason"

    threads = [threading.Thread(target=one, args=item) for item in requests.items()]
    for t in threads:
        t.start()
    meanwhile()
    for t in threads:
        t.join(120)
        assert not t.is_alive(), f"a request hangs; ended have {sorted(results)}"
    assert set(results) == set(requests), "a request ended with something that is no czone.Error"
    return results


def again_and_again(victim, action):
    """All requests, over and over in a thread each, while something happens: {name: {errno}}."""
    stop, seen = threading.Event(), {}

    def loop(name, call):
        while not stop.is_set():
            start = time.monotonic()
            try:
                call()
                error = 0
            except czone.Error as e:
                error = e.errno
            seen.setdefault(name, set()).add(error)
            assert time.monotonic() - start < 30 + GRACE
            time.sleep(0.02)

    threads = [threading.Thread(target=loop, args=item)
               for item in victim.requests(TIMEOUT).items()]
    for t in threads:
        t.start()
    try:
        time.sleep(0.5)
        action()
    finally:
        stop.set()
        for t in threads:
            t.join(120)
    assert not any(t.is_alive() for t in threads), "a request hangs"
    return seen


@contextlib.contextmanager
def victim(**options):
    leaks = Leaks()
    m = Victim(**options)
    m.pid = m.vm.stats().pid
    try:
        with m:
            yield m
            m.let_go()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(m.pid, signal.SIGCONT)
    leaks.none()


KNOWN = {0, errno.ENOTCONN, errno.ETIMEDOUT, errno.ENOENT, errno.EBUSY, errno.EEXIST, errno.EPROTO,
         errno.ENODEV, errno.ENOSPC}


def test_hang_pause_and_death_of_qemu_during_each_request():
    """First it stands still, then it is paused, each time it goes on; then it is killed."""
    with victim() as v:
        # ---- hang: its process is stopped
        v.signal(signal.SIGSTOP)
        results = all_at_once(v.requests(TIMEOUT), lambda: None)
        print("hang:", results)
        for name, (error, seconds) in results.items():
            assert error == errno.ETIMEDOUT, (name, error)
            limit = 30 if name in ("stats", "zone-stats", "ranges", "list", "lookup") else TIMEOUT
            assert limit - 0.1 <= seconds < limit + GRACE, (name, seconds)
        v.signal(signal.SIGCONT)
        v.works()

        # ---- hang, but it comes back in time
        v.signal(signal.SIGSTOP)
        results = all_at_once(v.requests(60), lambda: (time.sleep(1), v.signal(signal.SIGCONT)))
        print("short hang:", results)
        assert {error for error, _ in results.values()} <= {0, errno.EBUSY}, results
        v.works()

        # ---- the VM is paused, and goes on
        domain = domain_of(v)

        def pause():
            domain.suspend()
            results = all_at_once(v.requests(TIMEOUT), lambda: None)
            for name, (error, seconds) in results.items():
                # ENOENT: the zone has been destroyed before
                assert error == errno.ENOTCONN or (name, error) == ("destroy", errno.ENOENT), \
                    (name, error)
                assert seconds < TIMEOUT + GRACE, (name, seconds)
            domain.resume()

        seen = again_and_again(v, pause)
        print("pause:", seen)
        assert set().union(*seen.values()) <= KNOWN, seen
        v.works()

        # ---- killed
        v.signal(signal.SIGSTOP)
        killed = []
        results = all_at_once(v.requests(60), lambda: (time.sleep(0.5), killed.append(time.monotonic()),
                                                       v.signal(signal.SIGKILL)))
        print("killed:", results)
        for name, (error, seconds) in results.items():
            assert error == errno.ESHUTDOWN and seconds < 0.5 + GRACE, (name, error, seconds)
        with pytest.raises(czone.Error, match="the VM has gone"):
            v.vm.stats()


class PoolFile:
    """The pool's file, which is no larger than the pool, as its VMM has it."""

    def __init__(self, v):
        self.size = v.vm.stats().pool_size
        for link in pathlib.Path(f"/proc/{v.pid}/fd").iterdir():
            with contextlib.suppress(OSError):
                if link.stat().st_size >= self.size and "memfd:" in os.readlink(link):
                    self.fd = os.open(link, os.O_RDWR)
                    break
        assert os.fstat(self.fd).st_blocks * 512 == v.vm.stats().host_pool

    def data(self):
        """What is not a hole: (offset, content) of each 4 KiB page that is not all zeroes."""
        at = 0
        while True:
            try:
                at = os.lseek(self.fd, at, os.SEEK_DATA)
            except OSError as e:
                assert e.errno == errno.ENXIO, e
                return
            end = os.lseek(self.fd, at, os.SEEK_HOLE)
            for page in range(at, end, 4096):
                content = os.pread(self.fd, 4096, page)
                if any(content):
                    yield page, content
            at = end

    def close(self):
        os.close(self.fd)


def test_reset_during_each_request_and_reboot():
    with victim() as v:
        old = v.idle.zone
        file = PoolFile(v)
        # what the containers have written, each page another content
        secrets = {content for _, content in file.data()}
        assert len(secrets) > 16 * MIB // 4096, len(secrets)
        domain = domain_of(v)
        # by its configuration a reset ends this VM; others reboot
        libvirt_qemu.qemuMonitorCommand(
            domain, '{"execute": "set-action", "arguments": {"reboot": "reset"}}', 0)

        def reset():
            domain.reset()
            time.sleep(2)

        seen = again_and_again(v, reset)
        print("reset:", seen)
        assert set().union(*seen.values()) <= KNOWN, seen
        # it has booted anew, and its pool is empty
        v.guest.socket.close()
        v.guest = Guest(v.directory / "exec")
        v.guest.run("true")
        until(v.answers, "the device does not work after a reset")
        for zone in v.vm.zones():
            zone.destroy()      # made while it booted
        assert v.pool(at_most=4 * MIB) <= 4 * MIB, "memory of the old kernel is left"
        left = [page for page, content in file.data() if content in secrets]
        assert not left, f"{len(left)} pages of the old containers, the first at {left[0]:#x}"
        file.close()
        with pytest.raises(czone.Error) as e:
            old.stats()
        assert e.value.errno == errno.ENOENT
        del old, e      # whose traceback has it, too
        v.prepare()
        v.works()

        # and now by its configuration
        libvirt_qemu.qemuMonitorCommand(
            domain, '{"execute": "set-action", "arguments": {"reboot": "shutdown"}}', 0)
        with contextlib.suppress(ConnectionError, TimeoutError):
            v.guest.run("reboot -f", limit=60)
        until(lambda: not pathlib.Path(f"/proc/{v.pid}").exists(), "the VM has not ended")
        for name, (error, seconds) in all_at_once(v.requests(TIMEOUT), lambda: None).items():
            assert error == errno.ESHUTDOWN and seconds < GRACE, (name, error, seconds)


def test_memory_that_is_touched_without_a_zone():
    """Written by the VMM's side of its file: no program of this guest reaches it, its kernel would."""
    with victim() as v:
        events = []
        v.vm.on_event(events.append)
        before = v.vm.audit()
        assert before.stray == 0 and before.zones == 3, before
        assert before.held == 80 * MIB and before.over_quota == 0, before
        file = PoolFile(v)
        size = os.fstat(file.fd).st_size
        zone = v.vm.create(MIB)
        assert v.vm.audit().stray == 0
        # at the end of the pool, where no zone is
        os.pwrite(file.fd, b"stray" * MIB, size - 5 * MIB)
        found = v.vm.audit()
        assert found.stray == 5 * MIB and found.taken == 0, found
        assert v.vm.stats().stray == 5 * MIB
        taken = v.vm.audit(take=True)
        print(taken)
        assert taken.stray == 0 and taken.taken == 5 * MIB and taken.zones == 4, taken
        assert v.vm.stats().taken == 5 * MIB
        assert not any(os.pread(file.fd, 5 * MIB, size - 5 * MIB))
        v.vm.dispatch()
        assert [e.bytes for e in events if e.kind == czone.EventKind.STRAY] == [5 * MIB] * 2
        zone.destroy()
        file.close()

        # zones of the guest's own: what is beyond the quota is refused
        v.vm.set_quota(pool=128 * MIB, zone=64 * MIB)
        with pytest.raises(czone.Error, match="more than the 65536 KiB that a zone may have") as e:
            v.vm.create(68 * MIB)
        assert e.value.errno == errno.EDQUOT
        v.guest.run("zone-op create 68")
        until(lambda: v.vm.dispatch() >= 0 and
              [e for e in events if e.kind == czone.EventKind.OVER_QUOTA], "nobody minds")
        until(lambda: v.vm.stats().zones == 3, "it is there")
        v.guest.run("zone-op create 48")
        assert v.vm.stats().zones == 4
        v.guest.run("zone-op create 48")
        until(lambda: v.vm.stats().zones == 4, "it is there")
        assert v.vm.audit().over_quota == 0
        v.vm.set_quota(zone=32 * MIB)
        assert v.vm.audit().over_quota == 32 * MIB + 16 * MIB
        v.vm.set_quota()
        v.vm.on_event(None)
        del zone, e     # handles on the VM
        v.works()


@contextlib.contextmanager
def small_tmpfs(*options):
    with tempfile.TemporaryDirectory(prefix="czone-small.") as d:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", ",".join(("mode=700",) + options), "small", d],
                          check=False).returncode:
            pytest.skip("only root can mount a tmpfs")
        try:
            yield d
        finally:
            subprocess.run(["umount", "-l", d], check=True)


def test_a_full_pool_dir():
    """With no room left memory can be given back; a guest that touches more ends, and nobody else."""
    with small_tmpfs("size=96m") as d, victim(pool_dir=d) as v:
        fs = os.statvfs(d)
        other = os.open(os.path.join(d, "other"), os.O_WRONLY | os.O_CREAT)
        with contextlib.suppress(OSError):
            while True:
                os.write(other, bytes(fs.f_bsize))
        os.close(other)
        assert os.statvfs(d).f_bfree == 0
        before = v.pool()
        assert v.idle.zone.reclaim() >= 15 * MIB
        assert before - v.pool() >= 15 * MIB, "nothing comes back from a full file system"
        assert v.idle.verify() == 16 * MIB
        # more than there is room for: SIGBUS for QEMU
        hog = Container(v, "hog", 256 * MIB).workload(anon=200)
        until(lambda: not pathlib.Path(f"/proc/{v.pid}").exists(), "it has room after all")
        for name, (error, seconds) in all_at_once(v.requests(TIMEOUT), lambda: None).items():
            assert error == errno.ESHUTDOWN and seconds < GRACE, (name, error, seconds)
        hog.zone = None
        v.let_go()
        v.vm.close()
        os.unlink(os.path.join(d, "other"))
        assert os.statvfs(d).f_bfree == os.statvfs(d).f_blocks, "blocks are left"


def start(**options):
    image = pathlib.Path(os.environ["CZONE_MICROVM"])
    return czone.VM.start(**{"kernel": os.environ["CZONE_KERNEL"], "initrd": image / "initrd.gz",
                             "pool_bytes": 128 * MIB, **options})


def test_a_full_state_dir():
    with small_tmpfs("size=64k", "nr_inodes=2") as d:
        pathlib.Path(d, "the-last-inode").touch()
        leaks = Leaks()
        with pytest.raises(czone.Error) as e:
            start(state_dir=d, name="full")
        assert e.value.errno == errno.ENOSPC and d in str(e.value), e.value
        leaks.none()


def test_no_descriptors_left():
    """Whatever the last one was for: an error, and none is lost."""
    leaks = Leaks()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(fd) for fd in os.listdir("/proc/self/fd")}
    free = [fd for fd in range(max(used) + 200) if fd not in used]
    errors = []
    for room in (1, 2, 5, 10, 20, 40, 60, 80):
        resource.setrlimit(resource.RLIMIT_NOFILE, (free[room - 1] + 1, hard))
        begin = time.monotonic()
        try:
            start(state_dir=support.STATE.name, name=f"poor{room}", timeout=60).close()
            break
        except czone.Error as e:
            errors.append((room, str(e)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert time.monotonic() - begin < 60 + GRACE, "no limit"
            leaks.none()
    print(errors)
    assert [room for room, _ in errors] == [1, 2, 5, 10, 20, 40, 60]
    assert all("Too many open files" in text for _, text in errors), errors
