# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where a container's pages lie."""
from microvm import MIB, Container


def inside(start, size, ranges):
    return any(r.start <= start and start + size <= r.start + r.size for r in ranges)


def overlap(a, b):
    return a[0] < b[0] + b[1] and b[0] < a[0] + a[1]


def test_user_pages_come_only_from_the_zone(microvm):
    c = Container(microvm, "own", 64 * MIB).workload(anon=24, shm=8, file=8)
    c.wait("ready")
    ranges = c.zone.ranges()
    outside = {}
    counted = {}
    for start, size, kind in c.pages():
        counted[kind] = counted.get(kind, 0) + size
        if kind != "image" and not inside(start, size, ranges):
            outside.setdefault(kind, []).append((hex(start), size))
    print("mapped:", counted, "zone:", ranges)
    assert counted["anon"] >= 24 * MIB and counted["shm"] == 8 * MIB and counted["file"] == 8 * MIB
    assert not outside
    c.stop()
    c.remove()
    c.zone.destroy()


def test_huge_pages_come_from_the_zone(microvm):
    c = Container(microvm, "huge", 64 * MIB).workload(anon=32, thp=1)
    c.wait("ready")
    huge = int(microvm.guest.run(
        f"awk '/^AnonHugePages/ {{ s += $2 }} END {{ print s }}' /proc/{c.pid}/smaps"))
    ranges = c.zone.ranges()
    assert huge >= 16 << 10, f"only {huge} KiB of huge pages: the test shows nothing"
    assert all(inside(s, n, ranges) for s, n, kind in c.pages() if kind == "anon")
    c.stop()
    c.remove()
    c.zone.destroy()


def test_two_containers_share_no_page(microvm):
    a = Container(microvm, "a", 48 * MIB).workload(anon=16, shm=4, file=4, seed=1)
    b = Container(microvm, "b", 48 * MIB).workload(anon=16, shm=4, file=4, seed=2)
    for c in (a, b):
        c.wait("ready")
    ranges = [(r.start, r.size) for c in (a, b) for r in c.zone.ranges()]
    assert not overlap(*ranges), ranges
    pages_a = [(s, n) for s, n, kind in a.pages() if inside(s, n, a.zone.ranges() + b.zone.ranges())]
    pages_b = [(s, n) for s, n, kind in b.pages() if inside(s, n, a.zone.ranges() + b.zone.ranges())]
    assert sum(n for _, n in pages_a) >= 24 * MIB and sum(n for _, n in pages_b) >= 24 * MIB
    shared = [(x, y) for x in pages_a for y in pages_b if overlap(x, y)]
    assert not shared
    for c in (a, b):
        c.verify()
        c.stop()
        c.remove()
        c.zone.destroy()


def test_a_child_inherits_the_zone(microvm):
    c = Container(microvm, "family", 64 * MIB)
    microvm.guest.run("container start family sh -c 'workload anon=8 & workload anon=8 seed=2 & wait'")
    c.wait("ready")
    used = c.zone.stats().used
    assert used >= 8 * MIB, used
    c.stop()
    c.remove()
    c.zone.destroy()


def test_without_a_zone_nothing_comes_from_the_pool(microvm):
    before = microvm.pool()
    c = Container(microvm, "plain").workload(anon=16)
    c.wait("ready")
    assert microvm.pool() <= before
    c.stop()
    c.remove()


def test_statistics_add_up(microvm):
    c = Container(microvm, "sums", 64 * MIB).workload(anon=20, file=8, free=50)
    c.wait("ready")
    for kept in (28, 18):
        s = c.zone.stats()
        print(s)
        assert s.size == 64 * MIB
        assert s.used + s.free_backed + s.free_unbacked == s.size
        assert kept * MIB <= s.used <= (kept + 2) * MIB
        # the host's own count, which knows nothing of the guest's
        assert s.used + s.free_backed <= s.host_resident + 64 * 4096
        assert s.host_resident <= s.used + s.free_backed + 64 * 4096
        c.idle()
    c.stop()
    c.remove()
    c.zone.destroy()
