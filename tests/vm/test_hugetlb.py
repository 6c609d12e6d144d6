# SPDX-License-Identifier: LGPL-2.1-or-later
"""A pool on hugetlb pages: whole ones come back, or it is refused. Needs root for its pages."""
import contextlib
import errno
import os
import pathlib
import subprocess
import tempfile

import pytest

import czone
from microvm import MIB, Container, MicroVM

PAGES = pathlib.Path("/sys/kernel/mm/hugepages/hugepages-2048kB")
POOL = 256 * MIB


def count(what):
    return int((PAGES / what).read_text())


@pytest.fixture(scope="module")
def pool_dir():
    """A hugetlbfs, and pages for the pool that are nobody's."""
    before = count("nr_hugepages")
    wanted = before + POOL // (2 * MIB) + 8
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="czone-huge."))
        try:
            (PAGES / "nr_hugepages").write_text(str(wanted))
            stack.callback((PAGES / "nr_hugepages").write_text, str(before))
            subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=2M,mode=0700", "czone",
                            directory], check=True)
            stack.callback(subprocess.run, ["umount", directory], check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no hugetlb pages here: {error}")
        if count("nr_hugepages") < wanted:
            pytest.skip("this machine has no room for hugetlb pages")
        yield directory


def test_whole_pages_come_back(pool_dir):
    with MicroVM(pool=POOL, pool_dir=pool_dir, vcpus=1) as m:
        untouched = count("free_hugepages")
        c = Container(m, "c", 96 * MIB)
        c.workload(anon=64, free=48, seed=1)
        c.wait("ready")
        freed = c.idle()
        used = count("free_hugepages")
        assert untouched - used >= 64 * MIB // (2 * MIB)
        returned = c.zone.reclaim()
        assert returned % (2 * MIB) == 0
        # what shares a page with something in use stays
        assert returned >= 0.8 * freed
        assert (count("free_hugepages") - used) * 2 * MIB == returned
        assert c.verify() > 0
        assert c.zone.stats().host_resident is None
        c.stop()
        c.remove()
        c.zone.destroy()
        assert m.pool(at_most=0) == 0
        assert count("free_hugepages") >= untouched


def test_a_guest_that_is_not_told_gets_no_such_pool(pool_dir):
    """By hand, with a device that says 4 KiB: refused, and not silently of no use."""
    with tempfile.TemporaryDirectory(prefix="czone-h.") as d, \
            czone.VM.serve(d + "/device", pool_start=4 << 30, pool_bytes=POOL) as vm:
        qemu = subprocess.Popen([
            os.environ["CZONE_QEMU"], "-no-user-config", "-nodefaults", "-display", "none",
            "-machine", "q35", "-accel", "tcg", "-cpu", "max",
            "-m", "size=256M,slots=1,maxmem=8G",
            "-object", "memory-backend-memfd,id=ram,share=on,size=256M", "-numa", "node,memdev=ram",
            "-object", f"memory-backend-memfd,id=pool,share=on,size={POOL},hugetlb=on,hugetlbsize=2M",
            "-device", f"pc-dimm,memdev=pool,addr={4 << 30:#x}",
            "-chardev", f"socket,id=czone,path={d}/device",
            "-device", "vhost-user-test-device-pci,chardev=czone,virtio-id=13,num_vqs=3,"
                       "vq_size=256,config_size=64",
            "-kernel", os.environ["CZONE_KERNEL"],
            "-initrd", os.environ["CZONE_MICROVM"] + "/initrd.gz",
            "-append", "console=ttyS0 panic=-1 swiotlb=noforce", "-serial", f"file:{d}/console",
        ], stdin=subprocess.DEVNULL)
        try:
            with pytest.raises(czone.Error, match="pool") as caught:
                vm.wait(timeout=120)
            assert caught.value.errno == errno.EOPNOTSUPP, caught.value
        finally:
            qemu.kill()
            qemu.wait()


def test_pages_that_are_too_large(pool_dir):
    sizes = [p.name for p in PAGES.parent.iterdir()]
    if "hugepages-1048576kB" not in sizes:
        pytest.skip("no pages of 1 GiB in this kernel")
    with tempfile.TemporaryDirectory(prefix="czone-1g.") as d:
        subprocess.run(["mount", "-t", "hugetlbfs", "-o", "pagesize=1G", "czone", d], check=True)
        try:
            with pytest.raises(czone.Error, match="pagesize=2M") as caught:
                MicroVM(pool=1 << 30, pool_dir=d)
            assert caught.value.errno == errno.EOPNOTSUPP
        finally:
            subprocess.run(["umount", d], check=True)
