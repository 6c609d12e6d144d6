# SPDX-License-Identifier: LGPL-2.1-or-later
"""VMs whose instructions are counted.

Under -icount shift=0 one instruction takes 1 ns of the guest's time, whatever the
host does meanwhile, so guest/insn.c counts instructions with a clock. One vCPU.
"""
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import time
from concurrent import futures

from microvm import MIB, STATE, Guest, MicroVM, initrd

ICOUNT = ["-icount", "shift=0"]
# When the guest is idle its clock jumps to the next timer, and does not wait for the host's.
JUMPING = ["-icount", "shift=0,sleep=off"]
LIMIT_S = 900       # of one step under TCG
BOOT = 512 * MIB    # memory outside the pool, or apart from what is plugged


def emulator(*arguments):
    """A program that runs QEMU with more arguments than libczone gives it."""
    fd, path = tempfile.mkstemp(prefix="qemu-", dir=STATE.name)
    with os.fdopen(fd, "w") as f:
        f.write(f"""#!/bin/sh
# libvirt asks what QEMU can do with -machine none, which has no CPU to count for
case " $* " in
*" none,"*) exec '{os.environ["CZONE_QEMU"]}' "$@" ;;
esac
exec '{os.environ["CZONE_QEMU"]}' "$@" {" ".join(arguments)}
""")
    os.chmod(path, 0o755)
    return path


def insn(guest, what):
    """Run guest/insn.c: [(word, {key: number})], a line each."""
    lines = guest.run(f"insn {what}", limit=LIMIT_S).splitlines()
    return [(line.split()[0], {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", line)})
            for line in lines]


def counts(lines, word, key="insn"):
    return [values[key] for first, values in lines if first == word]


def stop_port(path):
    """A port through which the host ends what Spans.span() counts."""
    return ["-device", "virtio-serial-pci,id=stop,bus=pcie.0,addr=0x1b", "-chardev",
            f"socket,id=stopper,path={path},server=on,wait=off", "-device",
            "virtserialport,bus=stop.0,chardev=stopper,name=czone.stop"]


STOP_PORT = ("/dev/$(basename $(dirname $(grep -lx czone.stop "
             "/sys/class/virtio-ports/*/name)))")


class Spans:
    """A guest with such a port."""
    stopper = None

    def open_stopper(self):
        """A port whose other end is closed would not make its reader wait."""
        if not self.stopper:
            self.stopper = socket.socket(socket.AF_UNIX)
            self.stopper.connect(str(self.stop_path))
            time.sleep(0.2)

    def span(self, action=None, settle=0.1):
        """(instructions, ns by the guest's clock, seconds of the action) until action returns.

        Of the instructions, what an idle guest executes in the same time is subtracted once
        measure_idle() was called.
        """
        self.open_stopper()
        with futures.ThreadPoolExecutor(1) as pool:
            counted = pool.submit(insn, self.guest, f"until {STOP_PORT}")
            time.sleep(0.3)     # insn has begun
            try:
                start = time.monotonic()
                if action:
                    action()
                seconds = time.monotonic() - start
                time.sleep(settle)
            finally:
                self.stopper.sendall(b"x")
            values = counted.result()[0][1]
        return max(0, values["insn"] - self.idle_rate * values["ns"]), values["ns"], seconds

    idle_rate = 0.0

    def measure_idle(self):
        total, ns, _ = self.span(lambda: time.sleep(2))
        self.idle_rate = total / ns


class CountedVM(Spans, MicroVM):
    """A VM with a pool."""

    def __init__(self, icount=ICOUNT, boot=BOOT, **options):   # pylint: disable=dangerous-default-value
        self.stop_path = pathlib.Path(tempfile.mktemp(prefix="stop-", dir=STATE.name))
        super().__init__(vcpus=1, boot_bytes=boot, kvm=2,
                         emulator=emulator(*icount, *stop_port(self.stop_path)), **options)


class PlainVM(Spans):
    """A VM without libczone, started by QEMU itself; for everything else."""

    def __init__(self, *arguments, kernel=None, memory=BOOT, cmdline="", counted=True, cpus=1,
                 ram=None, wait=True, icount=ICOUNT):     # pylint: disable=dangerous-default-value
        """counted=False: at the speed of the clock. wait=False: do not wait for the guest."""
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="plain", dir=STATE.name))
        d = self.directory
        self.stop_path = d / "stop"
        self.started = time.monotonic()
        self.qemu = subprocess.Popen([
            os.environ["CZONE_QEMU"], "-no-user-config", "-nodefaults", "-display", "none",
            "-machine", "q35,memory-backend=ram", "-accel", "tcg,tb-size=32", "-cpu", "max",
            "-smp", str(cpus), *(icount if counted else []), "-m", f"size={memory >> 20}M,slots=4,maxmem=64G",
            "-object", ram or f"memory-backend-memfd,id=ram,share=on,size={memory}",
            "-kernel", kernel or os.environ["CZONE_KERNEL"], "-initrd", str(initrd()),
            "-append", f"console=ttyS0 panic=-1 swiotlb=noforce loglevel=7 {cmdline}",
            "-serial", f"file:{d}/console", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=exec,path={d}/exec,server=on,wait=off",
            "-device", "virtserialport,chardev=exec,name=czone.exec",
            *stop_port(self.stop_path),
            "-qmp", f"unix:{d}/qmp,server=on,wait=off", *arguments,
        ], stdin=subprocess.DEVNULL)
        try:
            self._connect()
            if wait:
                self.answer()
        except BaseException:
            print(self.console()[-4000:])
            self._end()
            raise

    def _connect(self):
        """Ends when QEMU answers."""
        self.monitor = socket.socket(socket.AF_UNIX)
        self.monitor.settimeout(LIMIT_S)
        while True:
            try:
                self.monitor.connect(str(self.directory / "qmp"))
                break
            except OSError:
                if self.qemu.poll() is not None or time.monotonic() > self.started + 60:
                    raise
                time.sleep(0.0005)
        self.answers = self.monitor.makefile()
        self.answers.readline()
        self.qmp("qmp_capabilities")
        self.ready = time.monotonic()

    def answer(self):
        """Wait until the guest answers."""
        self.guest = Guest(self.directory / "exec")
        self.guest.run("true", limit=LIMIT_S)

    def console(self):
        path = self.directory / "console"
        return path.read_text(errors="replace") if path.exists() else ""

    def qmp(self, command, **arguments):
        self.monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode())
        for line in self.answers:
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]
        raise ConnectionError("QEMU has ended")

    def resident(self):
        """Bytes of host memory behind the guest's."""
        fds = pathlib.Path(f"/proc/{self.qemu.pid}/fd")
        return sum(fd.stat().st_blocks * 512 for fd in fds.iterdir()
                   if os.readlink(fd).startswith("/memfd:"))

    def window(self, ms, action=None, done=None):
        """Instructions of the guest in a time in which the host does something to it."""
        with futures.ThreadPoolExecutor(1) as pool:
            counted = pool.submit(insn, self.guest, f"window {ms}")
            time.sleep(0.3)     # insn has begun
            if action:
                action()
            lines = counted.result()
        if done and not done():
            raise TimeoutError(f"not done within {ms} ms of the guest's time")
        return counts(lines, "window")[0]

    def _end(self):
        self.qemu.kill()
        self.qemu.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        if exc[0]:
            print("console:\n" + self.console()[-6000:])
        self._end()
