# SPDX-License-Identifier: LGPL-2.1-or-later
"""MicroVMs restored from a template, the fastest way that stock QEMU has.

The template's memory is a file on tmpfs, and its migration stream has the devices' state
only (x-ignore-shared). A clone maps the file privately: what it does not write to, it
shares with all others.
"""
import os
import shutil
import tempfile
import time

from function_vm import Function, cpu_seconds, image, prepare
from measure import MIB
from vms import PlainVM

MEMORY = 384 * MIB      # of each microVM: a function of 170 MiB fits


def disk():
    return ["-drive", f"file={image()},format=raw,if=none,readonly=on,id=image",
            "-device", "virtio-blk-pci,drive=image"]


def cold(disks=None, **options):
    return PlainVM(*(disks or disk()), memory=MEMORY, **options)


class Template:
    """A guest that waits for its first container, and has run one: the image is in its cache."""

    def __init__(self, disk=None, warm=True):   # pylint: disable=redefined-outer-name
        """disk: another image than that of the functions; warm=False: no container has run."""
        self.disks = disk
        self.directory = tempfile.mkdtemp(prefix="czone-template.", dir="/dev/shm")
        try:
            with cold(self.disks, counted=False, ram=self.ram("on")) as m:
                if warm:
                    prepare(m.guest)
                    f = Function(m.guest, "first", "ballast", 10)
                    f.start()
                    f.call()
                    f.stop()
                    f.remove()
                m.qmp("stop")
                self._ignore_shared(m)
                m.qmp("migrate", uri=f"file:{self.directory}/state")
                self._until(m, "query-migrate", "completed")
        except BaseException:
            self.close()
            raise

    def ram(self, share):
        return (f"memory-backend-file,id=ram,mem-path={self.directory}/ram,share={share},"
                f"size={MEMORY}")

    @staticmethod
    def _ignore_shared(m):
        m.qmp("migrate-set-capabilities",
              capabilities=[{"capability": "x-ignore-shared", "state": True}])

    @staticmethod
    def _until(m, command, status):
        end = time.monotonic() + 60
        while m.qmp(command).get("status") != status:
            if time.monotonic() > end:
                raise TimeoutError(f"{command}: {m.qmp(command)}")
            time.sleep(0.0005)

    def clone(self):
        """A running guest, and the host's work until it ran: (VM, seconds, CPU seconds)."""
        m = PlainVM(*(self.disks or disk()), "-incoming", "defer", memory=MEMORY, counted=False,
                    wait=False, ram=self.ram("off"))
        try:
            self._ignore_shared(m)
            m.qmp("migrate-incoming", uri=f"file:{self.directory}/state")
            self._until(m, "query-migrate", "completed")
            m.qmp("cont")
            seconds = time.monotonic() - m.started
            cpu = cpu_seconds(m.qemu.pid)
            m.answer()
        except BaseException:
            m.__exit__(None)
            raise
        return m, seconds, cpu

    def size(self):
        return os.stat(f"{self.directory}/ram").st_blocks * 512

    def close(self):
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()
