# SPDX-License-Identifier: LGPL-2.1-or-later
"""A microVM under test: libczone on the host, a shell in the guest, and its log."""
import base64
import os
import pathlib
import re
import select
import shutil
import socket
import subprocess
import tempfile
import time

import czone

MIB = 1 << 20
COVERAGE = os.environ.get("CZONE_COVERAGE")    # where script/coverage collects what guests counted
STEP_S = 120  # limit of one step in the guest

# Lines of a kernel log that no test may leave behind.
SPLAT = re.compile(
    r"WARNING:|\bBUG\b|Oops|KASAN|UBSAN|general protection|possible recursive locking|"
    r"possible circular locking|inconsistent lock state|INFO: task .* blocked|INFO: rcu|"
    r"suspicious RCU|Bad page|page allocation failure|Kernel panic|scheduling while atomic|"
    r"sleeping function called|refcount_t|list_(add|del) corruption")

# With KCSAN (script/build-kernel --kcsan) the whole kernel's races are there.
KCSAN = re.compile(r"BUG: KCSAN: ")
OURS = re.compile(r"czone|vcz")

# libvirt's embedded driver has one root for the life of a process: all VMs share it.
STATE = tempfile.TemporaryDirectory(prefix="czone-state.")


def initrd():
    """With all the tests' programs, or another one that examples/microvm makes."""
    return pathlib.Path(os.environ["CZONE_MICROVM"], os.environ.get("CZONE_INITRD", "initrd.gz"))


class GuestError(Exception):
    """A command in the guest failed."""


class Guest:
    """Runs shell lines through the port that the guest's init serves."""

    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX)
        end = time.monotonic() + STEP_S
        while True:
            try:
                self.socket.connect(str(path))
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)
        self.buffer = b""

    def _read(self, wanted, end):
        while not wanted(self.buffer):
            ready, _, _ = select.select([self.socket], [], [], max(0, end - time.monotonic()))
            if not ready:
                raise TimeoutError(f"the guest has not answered; so far: {self.buffer[-200:]!r}")
            data = self.socket.recv(65536)
            if not data:
                raise ConnectionError("the guest's port is closed: the VM has ended")
            self.buffer += data

    def run(self, line, limit=STEP_S, check=True):
        """Output of a line; with check=False (status, output)."""
        assert "\n" not in line
        end = time.monotonic() + limit
        self.socket.sendall(line.encode() + b"\n")
        self._read(lambda b: b"\n" in b, end)
        head, self.buffer = self.buffer.split(b"\n", 1)
        status, length = map(int, head.split())
        self._read(lambda b: len(b) >= length, end)
        output, self.buffer = self.buffer[:length].decode(errors="replace"), self.buffer[length:]
        if not check:
            return status, output
        if status:
            raise GuestError(f"'{line}' ended with {status}: {output}")
        return output


class Container:
    """A container of the guest, in a zone or in none."""

    def __init__(self, microvm, name, size=None, **create):
        self.microvm, self.guest, self.name = microvm, microvm.guest, name
        self.cgroup = f"/c/{name}"
        self.guest.run(f"container create {name}")
        self.zone = microvm.vm.create(size, cgroup=self.cgroup, **create) if size else None
        self.pid = None

    def workload(self, **options):
        """Start the workload; it is ready when wait("ready") returns."""
        args = " ".join(f"{k}={v}" for k, v in options.items())
        self.pid = int(self.guest.run(f"container start {self.name} workload {args}"))
        return self

    def log(self):
        return self.guest.run(f"cat /run/c/{self.name}.log")

    def wait(self, word, limit=STEP_S):
        """The numbers of the log's last line that begins with word."""
        end = time.monotonic() + limit
        while True:
            text = self.log()
            assert "CORRUPT" not in text, f"{self.name}: {text}"
            lines = [x for x in text.split("\n")[:-1] if x.startswith(word)]
            if lines:
                return {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", lines[-1])}
            assert time.monotonic() < end, f"{self.name} did not say '{word}': {text}"
            time.sleep(0.05)

    def signal(self, name):
        self.guest.run(f"kill -{name} {self.pid}")

    def idle(self):
        self.signal("USR1")
        return self.wait("idle")["freed"]

    def verify(self):
        """Bytes that it still has, each checked."""
        before = self.log().count("verified ")
        self.signal("USR2")
        end = time.monotonic() + STEP_S
        while self.log().count("verified ") == before:
            assert "CORRUPT" not in self.log(), self.log()
            assert time.monotonic() < end
            time.sleep(0.05)
        return self.wait("verified")["bytes"]

    def pages(self, which=None):
        """[(start, bytes, kind)] of all that its process has mapped, or another one."""
        rows = [line.split() for line in self.guest.run(f"pagemap {which or self.pid}").splitlines()]
        return [(int(start, 16), int(count) * 4096, kind) for start, count, kind in rows]

    def stop(self):
        self.guest.run(f"container stop {self.name}")

    def remove(self):
        self.guest.run(f"container remove {self.name}")


class MicroVM:
    """One VM; use as a context manager. On leaving, its log must be clean."""

    def __init__(self, kernel=None, pool=4 << 30, vcpus=2, cmdline="", pool_dir=None, rootfs=None,
                 scratch_from=None, **options):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="vm", dir=STATE.name))
        self.name = self.directory.name
        image = pathlib.Path(os.environ["CZONE_MICROVM"])
        scratch = self.directory / "scratch.img"
        with open(scratch, "wb") as f:
            f.truncate(512 * MIB)
        env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
        filled = ["-d", str(scratch_from)] if scratch_from else []
        subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", *filled, str(scratch)], check=True, env=env)
        if COVERAGE:
            cmdline += " GCOV_PREFIX=/run/gcov"     # init's environment, and that of all that it starts
        if pool_dir:
            options.update(pool_backing=1, pool_dir=pool_dir)
        self.vm = None
        try:
            self.vm = czone.VM.start(
                state_dir=STATE.name, name=self.name, kernel=kernel or os.environ["CZONE_KERNEL"],
                initrd=initrd(), disks=[f"ro:{rootfs or image / 'rootfs.img'}", scratch],
                channel=self.directory / "exec", pool_bytes=pool, vcpus=vcpus,
                cmdline="loglevel=7 " + cmdline, **options)
            self.guest = Guest(self.directory / "exec")
            self.guest.run("true")
        except BaseException:
            self._end()
            raise

    def _keep_coverage(self):
        """What the programs of the guest counted, as one archive for script/coverage."""
        try:
            status, text = self.guest.run("[ -d /run/gcov ] && tar -c -C /run/gcov . | gzip | base64", check=False)
        except OSError:
            return      # the test has ended this VM
        if not status:
            path = pathlib.Path(COVERAGE) / f"{os.getpid()}-{self.name}.tar.gz"
            path.write_bytes(base64.b64decode(text))

    def _end(self):
        if self.vm:
            self.vm.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    def console(self):
        return (pathlib.Path(STATE.name) / f"{self.name}.console").read_text(errors="replace")

    def check_log(self):
        """Fails when the kernel complained."""
        bad = [line for line in self.console().splitlines() if SPLAT.search(line)]
        others = [line for line in bad if KCSAN.search(line) and not OURS.search(line)]
        if others:
            print(f"{len(others)} data races without a function of ours")
        bad = [line for line in bad if line not in others]
        assert not bad, "the guest's log has:\n" + "\n".join(bad) + "\n" + self.console()[-6000:]

    def pool(self, at_most=None):
        """Bytes of host memory behind the pool; as few as that, if they become so within 30 s.

        The kernel keeps the memory map of what zones had for a second.
        """
        end = time.monotonic() + 30
        while True:
            now = self.vm.stats().host_pool
            if at_most is None or now <= at_most or time.monotonic() > end:
                return now
            time.sleep(0.1)

    def settle(self):
        """Wait until the memory map of zones that are gone has come back, as far as it does."""
        end = time.monotonic() + 5
        last = None
        while time.monotonic() < end:
            stats = self.vm.stats()
            if not stats.metadata or (stats.zones and stats.metadata == last):
                return
            last = stats.metadata
            time.sleep(0.1 if not stats.zones else 1.2)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        try:
            if exc[0] is None:
                if COVERAGE:
                    self._keep_coverage()
                self.check_log()
            else:
                print("console:\n" + self.console()[-6000:])
        finally:
            self._end()
