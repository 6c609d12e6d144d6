# SPDX-License-Identifier: LGPL-2.1-or-later
"""script/demo's program, with what the project promises of its figures."""
import json
import os
import pathlib
import subprocess
import tempfile

import pytest

from microvm import MIB


@pytest.fixture
def directory():
    """A short path, for sockets lie below it; pytest's own is as long as the test's name."""
    with tempfile.TemporaryDirectory(prefix="czone-demo.") as path:
        yield pathlib.Path(path)


def run(directory, *options):
    image = pathlib.Path(os.environ["CZONE_MICROVM"])
    scratch = directory / "scratch.img"
    with open(scratch, "wb") as f:
        f.truncate(512 * MIB)
    env = dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin")
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext2", str(scratch)], check=True, env=env)
    output = subprocess.run(
        [os.environ["CZONE_DEMO"], "--state-dir", directory, "--kernel", os.environ["CZONE_KERNEL"],
         "--initrd", image / "initrd.gz", "--rootfs", image / "rootfs.img", "--scratch", scratch,
         "--json", directory / "figures", *options],
        check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=280, text=True)
    print(output.stdout)
    assert output.returncode == 0
    return json.loads((directory / "figures").read_text())


def check(figures):
    assert figures["containers"] >= 8
    assert figures["vm_start_s"] <= 30
    assert figures["host_bytes_peak"] - figures["host_bytes_before"] >= figures["dirtied_bytes"]
    assert figures["idle_returned_bytes"] >= 0.99 * figures["idle_freed_bytes"]
    assert figures["idle_page_faults"] == 0
    assert figures["returned_bytes"] >= 0.99 * figures["dirtied_bytes"]
    assert figures["returned_share"] >= 0.99
    assert figures["host_bytes_after"] - figures["host_bytes_before"] <= 8 * MIB


def test_on_small_host_pages(directory):
    check(run(directory))


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a tmpfs needs root")
def test_on_huge_host_pages(directory):
    pool = directory / "a pool"    # a space, as paths may have
    pool.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "huge=always", "czone-test", str(pool)], check=True)
    try:
        figures = run(directory, "--pool-dir", pool)
    finally:
        subprocess.run(["umount", "-l", str(pool)], check=True)
    assert figures["host_page_bytes"] == 2 * MIB
    check(figures)
