# SPDX-License-Identifier: LGPL-2.1-or-later
"""The life of a zone, on any driver: written from the package's documentation alone."""
import errno

import czone

MIB = 1 << 20
DIRTY = 32 * MIB
KEEP = 8 * MIB


def stats(zone):
    s = zone.stats()
    assert s.size == s.used + s.free_backed + s.free_unbacked
    return s


def live(vm, container):
    """Create, attach, use, reclaim, statistics, destroy.

    A container has a cgroup; use() dirties DIRTY bytes in it, idle() frees all
    but KEEP of them, check() says how many it still has, as they were; stop()
    ends it.
    """
    zones = vm.stats().zones
    zone = vm.create(2 * DIRTY)
    zone.attach_cgroup(container.cgroup)
    assert vm.stats().zones == zones + 1
    assert sum(r.size for r in zone.ranges()) == 2 * DIRTY == stats(zone).size
    assert stats(zone).used == 0

    container.use()
    assert DIRTY <= stats(zone).used <= DIRTY + 2 * MIB
    zone.reclaim()              # of what the container's start has left
    container.idle()
    s = stats(zone)
    assert KEEP <= s.used <= KEEP + 2 * MIB
    assert s.free_backed >= 0.99 * (DIRTY - KEEP)
    before = vm.stats().returned
    returned = zone.reclaim(4 * MIB)
    assert 0.99 * 4 * MIB <= returned <= 5 * MIB
    returned += zone.reclaim()
    assert returned >= 0.99 * (DIRTY - KEEP)
    assert vm.stats().returned - before >= 0.99 * returned
    assert stats(zone).free_backed <= MIB
    assert container.check() == KEEP

    try:
        zone.destroy()
        raise AssertionError("a zone was destroyed though its container lives")
    except czone.Error as error:
        assert error.errno == errno.EBUSY and error.report, error
    container.stop()
    report = zone.destroy()
    assert report.returned >= 0.99 * KEEP
    assert vm.stats().zones == zones
    try:
        zone.stats()
        raise AssertionError("a zone that was destroyed has statistics")
    except czone.Error as error:
        assert error.errno == errno.ENOENT, error
