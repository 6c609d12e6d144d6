# SPDX-License-Identifier: LGPL-2.1-or-later
"""What examples/ promises, on a VM."""
import os
import pathlib
import re
import subprocess
import sys
import tempfile

import pytest

from microvm import MIB, Container

IMAGE = pathlib.Path(os.environ["CZONE_MICROVM"])
EXAMPLES = pathlib.Path(os.environ["CZONE_EXAMPLES"])
SOURCES = pathlib.Path(__file__).parents[2] / "examples"


@pytest.fixture
def vm_options():
    """Of a program that starts a VM of its own; a short path, for sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="czone-ex.") as directory:
        yield ["--state-dir", directory, "--kernel", os.environ["CZONE_KERNEL"],
               "--initrd", IMAGE / "initrd.gz", "--rootfs", IMAGE / "rootfs.img"]


def output_of(*command):
    result = subprocess.run(command, check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                            timeout=200, text=True)
    print(result.stdout)
    assert result.returncode == 0
    return result.stdout


def test_faas_node_serves_each_request_and_gives_all_back(vm_options):
    text = output_of(EXAMPLES / "faas-node/faas-node", "--top", *vm_options, "1", "3", "2", "0", "0", "0", "0")
    rows = {int(m[0]): (int(m[1]), float(m[2]), float(m[3])) for m in
            re.findall(r"^ +(\d+) +\d+ +(\d+) +([\d.]+) +([\d.]+)$", text, re.MULTILINE)}
    assert [rows[i][0] for i in range(7)] == [1, 3, 3, 3, 2, 0, 0], rows
    # idle ones keep less: 60 % of 24 MiB each is free
    assert rows[3][2] >= 3 * 14.2 and rows[3][1] <= rows[1][1] - 40, rows
    assert "3 in warm containers, 3 in cold ones, 0 failed" in text
    assert re.search(r"^ +1 +48\.0 ", text, re.MULTILINE), "no table of zones"


def first_zone(*command):
    text = output_of(*command)
    assert re.search(r"reclaimed +\d+\.\d MiB used, +0\.\d free and backed", text), text
    return text


def test_first_zone_does_on_a_host_what_it_does_elsewhere(vm_options):
    arguments = vm_options[1::2]
    first_zone(EXAMPLES / "first-zone", *arguments)
    first_zone(sys.executable, SOURCES / "first_zone.py", *arguments)


def test_plot_reclaim_draws_what_a_vm_did(vm_options, tmp_path):
    text = output_of(sys.executable, SOURCES / "plot_reclaim.py", *vm_options, "--containers", "2",
                     "--steps", "4", "--output", tmp_path / "r.png")
    without, with_reclaim = map(float, re.search(r"average: ([\d.]+) MiB.*, ([\d.]+) MiB", text).groups())
    assert 0 < with_reclaim < without
    assert (tmp_path / "r.png").read_bytes().startswith(b"\x89PNG")


def test_czone_top_shows_who_has_what(microvm):
    container = Container(microvm, "top", 64 * MIB).workload(anon=24, free=50)
    container.wait("ready")
    container.idle()
    text = microvm.guest.run("czone-top-static --once")
    assert re.search(r"^guest:///: 1 zones; ", text), text
    row = re.search(r"^ +(\d+) +64\.0 +([\d.]+) +([\d.]+) .* /c/top$", text, re.MULTILINE)
    assert row and int(row[1]) == container.zone.id, text
    assert 12 <= float(row[2]) <= 14 and 11.8 <= float(row[3]) <= 14, text
    live = microvm.guest.run("timeout -s INT 3 czone-top-static --interval 0.2; true")
    assert live.count("\033[H\033[2J") >= 2, live
    container.stop()
    container.zone.destroy()
    container.remove()


def policy(guest, arguments, check=True):
    return guest.run(f"idle-policy-static {arguments} 2>&1", check=check)


def test_idle_policy_takes_what_nobody_misses_and_backs_off(microvm):
    guest = microvm.guest
    guest.run("mkdir /sys/fs/cgroup/c/idle")
    zone = microvm.vm.create(96 * MIB, cgroup="/c/idle")
    inside = "sh -c 'echo 0 >/sys/fs/cgroup/c/idle/cgroup.procs && "
    guest.run("dd if=/dev/zero of=/scratch/idle bs=1M count=32 2>/dev/null; sync; "
              "echo 3 >/proc/sys/vm/drop_caches")
    guest.run(inside + "cat /scratch/idle >/dev/null'")
    cache = zone.stats().file
    assert cache >= 32 * MIB
    text = policy(guest, "--interval 0.2 --rounds 8 /c/idle")
    lines = [line for line in text.splitlines() if line.startswith("reclaim")]
    asked = [float(re.search(r"of +([\d.]+)$", line)[1]) for line in lines]
    assert len(asked) >= 4 and asked[3] > 2 * asked[0], text   # growing pieces
    assert zone.stats().file < cache - 8 * MIB, text
    # somebody works with that file: what goes is missed
    guest.run(inside + "while [ ! -e /run/stop ]; do cat /scratch/idle >/dev/null; sleep 0.1; done' "
              "</dev/null >/dev/null 2>&1 &")
    text = policy(guest, "--interval 1 --rounds 12 /c/idle")
    guest.run("touch /run/stop; sleep 1; rm /run/stop /scratch/idle")
    assert re.search("^back off", text, re.MULTILINE), text
    zone.destroy()
    guest.run("rmdir /sys/fs/cgroup/c/idle")


def test_idle_policy_says_what_is_missing(microvm):
    status, text = policy(microvm.guest, "/c", check=False)
    assert status == 1 and "/c has no zone" in text, text
    status, text = policy(microvm.guest, "--interval 0 /c", check=False)
    assert status == 2 and "usage" in text, text
