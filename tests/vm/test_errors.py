# SPDX-License-Identifier: LGPL-2.1-or-later
"""What cannot be done says so, names why, and changes nothing."""
import errno
import os
import signal
import subprocess
import sys
import tempfile

import czone
import pytest

from microvm import MIB, STATE, Container, MicroVM


def refused(number, call, *args, **kwargs):
    with pytest.raises(czone.Error) as e:
        call(*args, **kwargs)
    assert e.value.errno == number, e.value
    assert str(e.value).strip(), "an error without words"
    return str(e.value)


def test_more_than_the_pool_has(microvm):
    before = microvm.vm.stats()
    refused(errno.ENOSPC, microvm.vm.create, 64 << 30)
    after = microvm.vm.stats()
    assert (after.pool_used, after.zones) == (before.pool_used, before.zones)


def test_no_such_cgroup_leaves_no_zone(microvm):
    refused(errno.ENOENT, microvm.vm.create, 8 * MIB, cgroup="/c/nobody")
    assert list(microvm.vm.zones()) == []


def test_one_zone_for_one_cgroup(microvm):
    a = Container(microvm, "one", 8 * MIB)
    b = microvm.vm.create(8 * MIB)
    refused(errno.EEXIST, b.attach_cgroup, "/c/one")
    Container(microvm, "two")
    refused(errno.EBUSY, a.zone.attach_cgroup, "/c/two")
    b.attach_cgroup("/c/two")
    for z in (a.zone, b):
        z.destroy()
    microvm.guest.run("container remove one; container remove two")


def test_no_such_zone(microvm):
    z = microvm.vm.create(8 * MIB)
    z.destroy()
    refused(errno.ENOENT, z.stats)
    refused(errno.ENOENT, z.reclaim)
    refused(errno.ENOENT, z.destroy)
    refused(errno.ENOENT, microvm.vm.lookup, 4711)


def test_bad_sizes(microvm):
    refused(errno.EINVAL, microvm.vm.create, 0)
    z = microvm.vm.create(1)
    assert z.stats().size == 4 * MIB
    refused(errno.EINVAL, z.resize, 0)
    refused(errno.ENOSPC, z.resize, 64 << 30)
    assert z.stats().size == 4 * MIB
    z.destroy()


def test_a_long_state_dir_is_named_before_libvirt_trips(microvm):
    # the embedded driver keeps the first VM's root, so a process of its own
    program = ("import czone, sys\n"
               "try: czone.VM.start(state_dir=sys.argv[1], kernel='/dev/null')\n"
               "except czone.Error as e: print(e.errno, e)")
    with tempfile.TemporaryDirectory() as path:
        said = subprocess.run([sys.executable, "-c", program, path + "/" + "long" * 20], check=True,
                              timeout=60, stdout=subprocess.PIPE, text=True).stdout
    assert said.startswith(f"{errno.ENAMETOOLONG} ") and "state_dir is too long by" in said, said


def test_a_state_dir_of_another_process_is_named(microvm):
    program = ("import czone, sys\n"
               "try: czone.VM.start(state_dir=sys.argv[1], kernel='/dev/null')\n"
               "except czone.Error as e: print(e.errno, e)")
    said = subprocess.run([sys.executable, "-c", program, STATE.name], check=True, timeout=60,
                          stdout=subprocess.PIPE, text=True).stdout
    assert said.startswith(f"{errno.EBUSY} ") and "another process uses this state_dir" in said, said


def test_a_guest_that_does_not_come_up_in_time_leaves_no_vm(microvm):
    text = refused(errno.ETIMEDOUT, czone.VM.start, state_dir=STATE.name, name="never",
                   kernel=os.environ["CZONE_KERNEL"], timeout=0.1)     # no kernel boots in that
    assert "within 100 ms" in text, text
    running = subprocess.run(["ps", "-eo", "args"], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert f"{STATE.name}/never.czone" not in running


def test_this_machine_has_all_that_the_tests_need():
    missing = [item for item in czone.probe(kernel=os.environ["CZONE_KERNEL"])
               if item.state == czone.ProbeState.MISSING]
    assert missing == []


def test_a_killed_vm_fails_calls_at_once():
    with MicroVM() as m:
        z = m.vm.create(8 * MIB)
        os.kill(m.vm.stats().pid, signal.SIGKILL)
        for call in (z.stats, z.reclaim, z.destroy):
            with pytest.raises(czone.Error) as e:
                call()
            assert e.value.errno in (errno.ESHUTDOWN, errno.ENOTCONN), e.value
