# SPDX-License-Identifier: LGPL-2.1-or-later
"""A VM that somebody else starts, with no libvirt: here QEMU, by hand.

What it is told is what any VMM with a generic vhost-user device must be told.
"""
import errno
import json
import os
import pathlib
import socket
import subprocess
import tempfile

import pytest

import czone
from microvm import MIB, SPLAT, Container, Guest

GIB = 1 << 30
POOL = 4 * GIB          # its address


class Hand:
    """The device first, then the VM."""

    def __init__(self, directory):
        d, image = pathlib.Path(directory), os.environ["CZONE_MICROVM"]
        self.directory = d
        self.vm = czone.VM.serve(d / "device", pool_start=POOL, pool_bytes=GIB)
        self.seen = []
        self.vm.on_event(self.seen.append)
        self.qemu = subprocess.Popen([
            os.environ["CZONE_QEMU"], "-no-user-config", "-nodefaults", "-display", "none",
            "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1",
            # all memory that the guest has is shared, and in files
            "-m", "size=256M,slots=1,maxmem=8G",
            "-object", "memory-backend-memfd,id=ram,share=on,size=256M",
            "-numa", "node,memdev=ram",
            # the pool, where we said
            "-object", "memory-backend-memfd,id=pool,share=on,size=1G",
            "-device", f"pc-dimm,memdev=pool,addr={POOL:#x}",
            # the device
            "-chardev", f"socket,id=czone,path={d}/device",
            "-device", "vhost-user-test-device-pci,chardev=czone,virtio-id=13,num_vqs=3,"
                       "vq_size=256,config_size=64",
            "-kernel", os.environ["CZONE_KERNEL"], "-initrd", f"{image}/initrd.gz",
            "-append", "console=ttyS0 panic=-1 swiotlb=noforce loglevel=7",
            "-drive", f"file={image}/rootfs.img,if=virtio,format=raw,readonly=on",
            "-serial", f"file:{d}/console", "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=exec,path={d}/exec,server=on,wait=off",
            "-device", "virtserialport,chardev=exec,name=czone.exec",
            "-qmp", f"unix:{d}/qmp,server=on,wait=off",
        ], stdin=subprocess.DEVNULL)
        self.vm.wait(timeout=120)
        self.guest = Guest(d / "exec")

    def qmp(self, command):
        with socket.socket(socket.AF_UNIX) as monitor:
            monitor.settimeout(60)
            monitor.connect(str(self.directory / "qmp"))
            lines = monitor.makefile()
            lines.readline()
            for execute in ("qmp_capabilities", command):
                monitor.sendall(json.dumps({"execute": execute}).encode())
                for line in lines:
                    answer = json.loads(line)
                    if "return" in answer or "error" in answer:
                        break
            return answer

    def end(self):
        self.qemu.kill()
        self.qemu.wait()
        self.vm.close()


@pytest.fixture(scope="module")
def hand():
    with tempfile.TemporaryDirectory(prefix="czone-h.") as directory:
        h = Hand(directory)
        try:
            yield h
            log = (h.directory / "console").read_text(errors="replace")
            assert not [line for line in log.splitlines() if SPLAT.search(line)], log[-3000:]
        finally:
            h.end()


def test_zones_and_their_memory(hand):
    c = Container(hand, "c", 64 * MIB)
    c.workload(anon=32, free=16, seed=1)
    c.wait("ready")
    freed = c.idle()
    before = hand.vm.stats()
    assert before.pid == hand.qemu.pid and before.host_pool >= 32 * MIB
    assert c.zone.reclaim() >= 0.99 * freed
    assert before.host_pool - hand.vm.stats().host_pool >= 0.99 * freed
    assert c.verify() > 0
    c.stop()
    c.remove()
    assert c.zone.destroy().returned > 0
    assert list(hand.vm.zones()) == []


def test_it_is_not_ours_to_stop(hand):
    for call in (hand.vm.stop, hand.vm.detach):
        with pytest.raises(czone.Error) as caught:
            call()
        assert caught.value.errno == errno.EOPNOTSUPP
    assert hand.qemu.poll() is None


def test_it_ends(hand):
    """Last."""
    assert "return" in hand.qmp("quit")
    hand.qemu.wait(60)
    while not any(e.kind == czone.EventKind.VM_GONE for e in hand.seen):
        assert hand.vm.dispatch(timeout=60), hand.seen
    assert hand.seen[0].kind == czone.EventKind.GUEST_READY
    for call in (hand.vm.stats, hand.vm.wait):
        with pytest.raises(czone.Error) as caught:
            call()
        assert caught.value.errno == errno.ESHUTDOWN
