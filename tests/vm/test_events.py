# SPDX-License-Identifier: LGPL-2.1-or-later
"""What a VM tells, asynchronous calls, and a target for its host memory."""
import asyncio
import time

import pytest

import czone
from microvm import MIB, Container, MicroVM

KIND = czone.EventKind


@pytest.fixture(scope="module")
def m():
    with MicroVM(pool=1 << 30) as microvm:
        yield microvm


@pytest.fixture
def seen(m):
    events = []
    m.vm.on_event(events.append)
    yield events
    m.vm.on_event(None)
    m.vm.dispatch()


def wait_for(m, seen, kind, zone=None, limit=30):
    """The first event of this kind, which may have come already."""
    end = time.monotonic() + limit
    while True:
        for event in seen:
            if event.kind == kind and zone in (None, event.zone):
                return event
        assert time.monotonic() < end, f"no {kind!r} among {seen}"
        m.vm.dispatch(timeout=1)


def test_life_of_a_zone(m, seen):
    c = Container(m, "life", 64 * MIB)
    assert wait_for(m, seen, KIND.ZONE_CREATED, c.zone.id).bytes == 64 * MIB
    c.zone.reclaim()
    wait_for(m, seen, KIND.RECLAIMED, c.zone.id)
    c.remove()
    c.zone.destroy()
    wait_for(m, seen, KIND.ZONE_DESTROYED, c.zone.id)


@pytest.mark.parametrize("spill", [False, True])
def test_a_full_zone_tells_once_a_second(m, seen, spill):
    c = Container(m, "spills" if spill else "full", 32 * MIB, spill=spill)
    began = time.monotonic()
    c.workload(anon=64)
    wait_for(m, seen, KIND.ZONE_FULL, c.zone.id)
    c.stop()
    took = time.monotonic() - began
    m.vm.dispatch(timeout=0.2)
    full = [e for e in seen if e.kind == KIND.ZONE_FULL]
    assert {e.zone for e in full} == {c.zone.id}
    assert len(full) <= took + 2
    c.remove()
    c.zone.destroy()


def test_zones_that_the_guest_makes(m, seen):
    """By its own hand, past the host's calls."""
    status, _, zone = map(int, m.guest.run("zone-op create 16").split())
    assert status == 0
    assert wait_for(m, seen, KIND.ZONE_CREATED, zone).bytes == 16 * MIB
    m.guest.run(f"zone-op destroy {zone} 10000")
    assert wait_for(m, seen, KIND.ZONE_DESTROYED, zone).bytes is None


def test_target(m, seen):
    m.vm.reclaim()
    low = m.vm.stats().actual
    assert m.vm.stats().target is None
    c = Container(m, "target", 160 * MIB)
    c.workload(anon=128, free=64, seed=3)
    c.wait("ready")
    c.idle()
    before = m.vm.stats()
    assert before.actual == before.host_pool + before.host_boot
    goal = before.actual - 32 * MIB
    actual = m.vm.set_target(goal)
    now = m.vm.stats()
    # as a balloon: what was asked for, and not all there is
    assert goal - 8 * MIB <= actual <= goal and now.target == goal
    assert wait_for(m, seen, KIND.TARGET_MET).bytes == actual
    # the rest is in use
    with pytest.raises(czone.Error, match="in use") as caught:
        m.vm.set_target(low)
    assert caught.value.errno == 16
    missed = wait_for(m, seen, KIND.TARGET_MISSED)
    assert missed.errno == 16 and missed.bytes >= low
    assert c.verify() > 0
    c.stop()
    c.remove()
    c.zone.destroy()
    m.vm.set_target(None)
    assert m.vm.stats().target is None


def test_calls_under_way_at_the_same_time(m):
    """Each is a request of its own to the guest: none waits for another's zone."""
    async def one(number):
        m_zone = await m.vm.create_async(8 * MIB)
        stats = await m_zone.stats_async()
        await m_zone.resize_async(16 * MIB)
        await m_zone.destroy_async()
        return stats.size

    async def all_of_them():
        return await asyncio.gather(*(one(n) for n in range(8)))

    assert asyncio.run(all_of_them()) == [8 * MIB] * 8


def test_a_guest_that_stops(m, seen):
    """Last: the VM ends here."""
    m.vm.wait(timeout=10)
    m.vm.stop()
    wait_for(m, seen, KIND.VM_GONE)
    with pytest.raises(czone.Error) as caught:
        m.vm.set_target(0)
    assert caught.value.errno == 108
    with pytest.raises(czone.Error) as caught:
        m.vm.wait()
    assert caught.value.errno == 108
