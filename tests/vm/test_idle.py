# SPDX-License-Identifier: LGPL-2.1-or-later
"""Zones that give idle memory back by themselves."""
import errno
import time

import czone
import pytest

from microvm import MIB, Container

DELAY = 0.5
SLACK = 4 * 4096 * 64  # what hides on per-CPU lists


def settled(microvm, limit=60):
    """Host memory behind the pool, once it stands still."""
    end, last = time.monotonic() + limit, -1
    while time.monotonic() < end:
        now = microvm.pool()
        if now == last:
            return now
        last = now
        time.sleep(3 * DELAY)
    raise AssertionError("the host's count does not settle")


def idle_container(microvm, name, size=128, **load):
    c = Container(microvm, name, size * MIB).workload(**load)
    c.wait("ready")
    return c


def end(*containers):
    for c in containers:
        c.stop()
        c.remove()
        c.zone.destroy()


def test_it_is_off_at_first(microvm):
    c = idle_container(microvm, "off", anon=64, free=50)
    s = c.zone.stats()
    assert (s.idle_delay, s.idle_floor) == (0, 0)
    c.idle()
    before = microvm.pool()
    time.sleep(4 * DELAY)
    assert microvm.pool() == before
    assert c.zone.stats().returned == s.returned
    end(c)


def test_idle_memory_comes_back(microvm):
    c = idle_container(microvm, "on", anon=64, free=50)
    c.zone.set_idle_return(DELAY)
    assert c.zone.stats().idle_delay == DELAY
    before, freed = microvm.pool(), c.idle()
    after = settled(microvm)
    print(f"freed {freed}, the host's count fell by {before - after}")
    assert before - after >= freed - SLACK
    s = c.zone.stats()
    assert s.free_backed <= SLACK and s.used + s.free_backed + s.free_unbacked == s.size
    assert c.verify() == 32 * MIB
    end(c)


def test_not_before_the_delay_and_not_once_it_is_off(microvm):
    c = idle_container(microvm, "later", anon=64, free=50)
    c.zone.set_idle_return(3600)
    c.idle()
    before = microvm.pool()
    time.sleep(3 * DELAY)
    assert microvm.pool() == before
    c.zone.set_idle_return(DELAY)
    c.zone.set_idle_return(None)
    assert c.zone.stats().idle_delay == 0
    time.sleep(4 * DELAY)
    assert microvm.pool() == before
    end(c)


def test_the_floor_stays(microvm):
    c = idle_container(microvm, "floor", anon=64, free=50)
    c.zone.set_idle_return(DELAY, floor=12 * MIB)
    assert c.zone.stats().idle_floor == 12 * MIB
    before, freed = microvm.pool(), c.idle()
    fell = before - settled(microvm)
    left = c.zone.stats().free_backed
    print(f"freed {freed}, fell by {fell}, left {left}")
    assert abs(left - 12 * MIB) <= SLACK
    assert freed - 12 * MIB - SLACK <= fell <= freed - 12 * MIB + SLACK
    end(c)


def test_memory_that_is_used_again_and_again_stays(microvm):
    """It is free at times, but never for a whole delay: at each look some of it is in use."""
    c = Container(microvm, "busy", 128 * MIB)
    # processes that live for some seconds each, with their memory free in between
    microvm.guest.run("echo 'while :; do dd if=/dev/zero of=/dev/null bs=40M count=50 2>/dev/null; "
                      "sleep 0.1; done' > /run/busy.sh; chmod 755 /run/busy.sh")
    microvm.guest.run("sh -c 'echo 0 > /sys/fs/cgroup/c/busy/cgroup.procs; exec sh /run/busy.sh' "
                      ">/dev/null 2>&1 & sleep 1")
    c.zone.set_idle_return(8.0)
    time.sleep(1)
    returned = c.zone.stats().returned
    time.sleep(20)
    s = c.zone.stats()
    print(s)
    assert s.returned - returned <= 4 * MIB, "what is in use all the time was returned"
    end(c)


def test_not_while_the_zone_is_nearly_full(microvm):
    c = idle_container(microvm, "full", size=64, anon=60)
    c.zone.set_idle_return(DELAY)
    s = c.zone.stats()
    assert s.free_backed + s.free_unbacked < s.size / 16, s
    returned = s.returned
    time.sleep(4 * DELAY)
    assert c.zone.stats().returned == returned
    end(c)


def test_not_under_pressure(microvm):
    """A strict zone that is full again and again keeps what it has."""
    c = Container(microvm, "tight", 32 * MIB)
    microvm.guest.run("dd if=/dev/zero of=/scratch/big bs=1M count=96 2>/dev/null; sync; "
                      "echo 1 > /proc/sys/vm/drop_caches")
    microvm.guest.run("echo 'while :; do cat /scratch/big; done' > /run/tight.sh")
    microvm.guest.run("sh -c 'echo 0 > /sys/fs/cgroup/c/tight/cgroup.procs; exec sh /run/tight.sh' "
                      ">/dev/null 2>&1 & sleep 2")
    c.zone.set_idle_return(DELAY)
    time.sleep(1)
    returned = c.zone.stats().returned
    time.sleep(6 * DELAY)
    assert c.zone.stats().returned == returned
    end(c)
    microvm.guest.run("rm /scratch/big")


def test_destroy_and_reclaim_while_it_is_at_work(microvm):
    for i in range(6):
        c = idle_container(microvm, f"both{i}", anon=64, free=75, seed=i)
        c.zone.set_idle_return(0.02)
        c.idle()
        time.sleep(0.02 * i)
        c.zone.reclaim()
        c.verify()
        end(c)
    z = microvm.vm.create(4 * MIB)
    assert z.stats().idle_delay == 0, "a new zone has the setting of an old one"
    z.destroy()


def test_a_hundred_zones(microvm):
    zones = [microvm.vm.create(4 * MIB) for _ in range(96)]
    some = [Container(microvm, f"many{i}", 24 * MIB).workload(anon=8, free=50, seed=i) for i in range(4)]
    for c in some:
        c.wait("ready")
    for z in zones + [c.zone for c in some]:
        z.set_idle_return(DELAY)
    before = microvm.pool()
    freed = sum(c.idle() for c in some)
    fell = before - settled(microvm)
    print(f"freed {freed}, fell by {fell}")
    assert fell >= freed - len(some) * SLACK
    for c in some:
        assert c.verify() == 4 * MIB
    end(*some)
    for z in zones:
        z.destroy()
    assert microvm.vm.stats().zones == 0


def test_in_the_guest_as_well(microvm):
    run = microvm.guest.run
    zone = run("zone-op create 8").split()[2]
    assert run(f"zone-op idle {zone} 250 {MIB}").split()[0] == "0"
    s = microvm.vm.lookup(int(zone)).stats()
    assert (s.idle_delay, s.idle_floor) == (0.25, MIB)
    assert run(f"zone-op destroy {zone} 10000").split()[0] == "0"


def test_what_makes_no_sense_is_refused(microvm):
    z = microvm.vm.create(4 * MIB)
    for arguments in (dict(delay=None, floor=1), dict(delay=86401)):
        with pytest.raises(czone.Error) as e:
            z.set_idle_return(**arguments)
        assert e.value.errno == errno.EINVAL
    z.destroy()
    with pytest.raises(czone.Error) as e:
        z.set_idle_return(1)
    assert e.value.errno == errno.ENOENT
