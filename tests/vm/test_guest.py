# SPDX-License-Identifier: LGPL-2.1-or-later
"""The library inside the guest, on its own kernel; and the same life on every driver."""
import re

import zone_life
from microvm import Container

MIB = 1 << 20


def test_every_call_of_the_guest_half(microvm):
    before = microvm.pool()
    assert microvm.guest.run("guest-check 2>&1", limit=240) == "ok\n"
    assert list(microvm.vm.zones()) == []
    assert microvm.pool(at_most=before + 2 * MIB) <= before + 2 * MIB  # the pool's memory map


def test_first_zone_does_in_a_guest_what_it_does_on_the_test_driver(microvm):
    status, output = microvm.guest.run("first-zone-static guest:/// 2>&1", check=False)
    assert status == 0, output
    assert re.search(r"reclaimed +\d+\.\d MiB used, +0\.\d free and backed", output), output
    assert list(microvm.vm.zones()) == []


def test_so_does_a_static_program_from_outside(microvm):
    """Built against an installed static tree, by pkg-config alone."""
    status, output = microvm.guest.run("first-zone-outside guest:/// 2>&1", check=False)
    assert status == 0, output
    assert list(microvm.vm.zones()) == []


class LivingContainer(Container):
    """A container for zone_life.live()."""

    def use(self):
        free = 100 * (zone_life.DIRTY - zone_life.KEEP) // zone_life.DIRTY
        self.workload(anon=zone_life.DIRTY // MIB, free=free)
        self.wait("ready")

    def check(self):
        return self.verify()


def test_a_life_from_the_host_is_as_on_the_test_driver(microvm):
    container = LivingContainer(microvm, "life")
    zone_life.live(microvm.vm, container)
    container.remove()


def run(microvm, arguments):
    """(status, output) of guest-run."""
    return microvm.guest.run(f"guest-run-static {arguments} 2>&1", check=False)


def nothing_is_left(microvm):
    assert list(microvm.vm.zones()) == []
    assert microvm.guest.run("ls -d /sys/fs/cgroup/guest-run-* 2>/dev/null || true") == ""


def test_guest_run_says_what_was_used_and_what_came_back(microvm):
    status, output = run(microvm, "--size 64 dd if=/dev/zero of=/dev/null bs=20M count=1")
    assert status == 0, output
    touched = float(re.search(r"([\d.]+) MiB of the zone were touched", output).group(1))
    back = float(re.search(r"([\d.]+) MiB came back", output).group(1))
    assert touched >= 20, output
    assert back >= 0.99 * touched, output
    nothing_is_left(microvm)


def test_guest_run_has_the_status_of_its_command(microvm):
    assert run(microvm, "sh -c 'exit 7'")[0] == 7
    assert run(microvm, "sh -c 'kill -9 $$'")[0] == 128 + 9
    assert run(microvm, "/nonexistent")[0] == 127
    assert run(microvm, "/proc")[0] == 126
    nothing_is_left(microvm)


def test_guest_run_says_what_is_missing(microvm):
    status, output = run(microvm, "--size 1048576 true")
    assert status == 125 and "pool" in output, output
    status, output = run(microvm, "--cgroup /nobody true")
    assert status == 125 and "/nobody" in output, output
    nothing_is_left(microvm)


def test_guest_run_cleans_up_when_it_is_ended(microvm):
    for signal in ("INT", "TERM"):
        status, output = microvm.guest.run(
            "guest-run-static sh -c 'sleep 100 & sleep 100' >/run/log 2>&1 & "
            f"sleep 1; kill -{signal} $!; wait $!", limit=30, check=False)
        assert status != 0, output
        nothing_is_left(microvm)


def test_the_doctor_finds_nothing_missing(microvm):
    status, output = microvm.guest.run("czone-doctor-static --guest 2>&1", check=False)
    assert status == 0 and "nothing is missing" in output, output


def test_the_doctor_names_what_the_guest_lacks(microvm):
    lines = microvm.guest.run(
        "unshare -m sh -c 'umount /sys/fs/cgroup; czone-doctor-static --guest; echo status $?'")
    assert "MISSING  cgroup2" in lines and "mount -t cgroup2" in lines, lines
    assert "status 1" in lines, lines
