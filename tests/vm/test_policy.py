# SPDX-License-Identifier: LGPL-2.1-or-later
"""Where pages go by choice: from birth, by moving, out of the zone, into a shared one."""
import errno

import czone
import pytest

from microvm import MIB, Container

PAGE = 4096


def inside(pages, zone):
    """Bytes of [(start, size, ...)] that lie in the zone."""
    ranges = zone.ranges()
    return sum(size for start, size, *_ in pages
               if any(r.start <= start and start + size <= r.start + r.size for r in ranges))


def total(pages):
    return sum(size for _, size, *_ in pages)


def own(pages):
    """All but the program's file."""
    return [page for page in pages if page[2] != "image"]


def end(*containers):
    for c in containers:
        c.stop()
        c.remove()
        if c.zone:
            c.zone.destroy()


@pytest.fixture(autouse=True)
def nothing_is_left(microvm):
    """One failure must not be the next one's."""
    yield
    microvm.guest.run("cd /sys/fs/cgroup/c; for c in *; do [ -d $c ] || continue;"
                      " container stop $c; rmdir $c/* 2>/dev/null; container remove $c; done; true")
    for zone in microvm.vm.zones():
        zone.destroy()


# ---- from birth

def test_the_first_page_of_a_process_lies_in_its_zone(microvm):
    c = Container(microvm, "born", 16 * MIB)
    pages = own(c.pages(f"--born /sys/fs/cgroup{c.cgroup}"))
    print(pages)
    assert total(pages) >= 33 * PAGE, "its stack, its data, its new memory"
    assert inside(pages, c.zone) == total(pages)
    end(c)


def test_children_and_grandchildren_are_in_the_zone(microvm):
    c = Container(microvm, "tree", 64 * MIB)
    microvm.guest.run("container start tree sh -c"
                      " 'sh -c \"workload anon=8 seed=1 & workload anon=4 shm=2 seed=2; wait\" & wait'")
    for _ in range(200):
        if c.log().count("ready ") == 2:
            break
        microvm.guest.run("sleep 0.1")
    pids = microvm.guest.run(f"cat /sys/fs/cgroup{c.cgroup}/cgroup.procs").split()
    assert len(pids) >= 4, pids
    for pid in pids:
        pages = own(c.pages(pid))
        assert pages and inside(pages, c.zone) == total(pages), (pid, pages)
    end(c)


def test_a_process_that_moves_allocates_from_the_new_zone(microvm):
    a, b = (Container(microvm, name, 32 * MIB) for name in ("from", "to"))
    a.pid = int(microvm.guest.run(
        "container start from sh -c 'echo up; while [ ! -e /tmp/go ]; do sleep 0.1; done;"
        " exec workload anon=8'"))
    a.wait("up")
    before = b.zone.stats().used
    microvm.guest.run(f"echo {a.pid} > /sys/fs/cgroup{b.cgroup}/cgroup.procs;"
                      f" touch /proc/{a.pid}/root/tmp/go")
    assert a.wait("ready")["anon"] == 8 * MIB
    pages = [page for page in a.pages() if page[2] == "anon"]
    assert total(pages) >= 8 * MIB and inside(pages, b.zone) >= total(pages) - 4 * PAGE
    assert b.zone.stats().used - before >= 8 * MIB
    end(b, a)


def memory_current(microvm, cgroup):
    return int(microvm.guest.run(f"cat /sys/fs/cgroup{cgroup}/memory.current"))


@pytest.mark.parametrize("load", [dict(anon=16), dict(anon=16, thp=1)], ids=["4k", "thp"])
@pytest.mark.parametrize("origin", [None, 48 * MIB], ids=["boot", "zone"])
def test_a_process_that_moves_takes_its_pages_along_when_told_to(microvm, origin, load):
    a, b = Container(microvm, "old", origin).workload(**load), Container(microvm, "new", 48 * MIB)
    a.wait("ready")
    microvm.guest.run(f"echo {a.pid} > /sys/fs/cgroup{b.cgroup}/cgroup.procs")
    assert inside(own(a.pages()), b.zone) == 0, "they stay, and so does the charge"
    assert memory_current(microvm, a.cgroup) >= 16 * MIB
    report = b.zone.attach_cgroup(b.cgroup, with_pages=True)
    print(report, b.zone.stats())
    pages = [page for page in own(a.pages()) if page[2] == "anon"]
    assert report.migrated >= 16 * MIB and total(pages) >= 16 * MIB
    assert inside(pages, b.zone) == total(pages)
    assert memory_current(microvm, b.cgroup) >= 16 * MIB, "who has them pays for them"
    assert memory_current(microvm, a.cgroup) <= 4 * MIB
    assert a.verify() == 16 * MIB
    microvm.guest.run(f"kill -9 {a.pid}; sleep 0.3")
    end(b, a)
    assert microvm.vm.stats().pool_used == 0


# ---- attach, with and without what there is

def late(microvm, name, size, **load):
    """A container that runs before it gets a zone."""
    c = Container(microvm, name).workload(**load)
    c.wait("ready")
    c.zone = microvm.vm.create(size)
    return c


def test_attach_leaves_old_pages_where_they_are(microvm):
    c = late(microvm, "leave", 64 * MIB, anon=12, shm=4)
    report = c.zone.attach_cgroup(c.cgroup)
    assert report.migrated == 0, report
    assert inside(own(c.pages()), c.zone) == 0
    microvm.guest.run("container start leave workload anon=8 seed=2")
    c.wait("ready")
    assert c.zone.stats().used >= 8 * MIB
    end(c)


@pytest.mark.parametrize("load", [dict(anon=24), dict(anon=24, thp=1), dict(shm=12), dict(file=12),
                                  dict(anon=12, shm=4, file=4)],
                         ids=lambda d: "+".join(d))
def test_attach_with_pages_moves_all_of_them(microvm, load):
    c = late(microvm, "take", 64 * MIB, **load)
    bytes_ = sum(v for k, v in load.items() if k != "thp") * MIB
    report = c.zone.attach_cgroup(c.cgroup, with_pages=True)
    pages = own(c.pages())
    print(report, c.zone.stats())
    assert report.migrated >= bytes_
    assert (report.stuck_pinned, report.stuck_full, report.stuck_other) == (0, 0, 0)
    assert inside(pages, c.zone) == total(pages) >= bytes_
    s = c.zone.stats()
    assert s.used >= bytes_ and s.used + s.free_backed + s.free_unbacked == s.size
    assert c.verify() == bytes_
    end(c)


def test_attach_with_pages_takes_the_groups_below_along(microvm):
    c = Container(microvm, "outer")
    microvm.guest.run("cd /sys/fs/cgroup/c/outer && echo +memory > cgroup.subtree_control && mkdir in")
    pid = microvm.guest.run("cd / ; sh -c 'echo $$ > /sys/fs/cgroup/c/outer/in/cgroup.procs;"
                            " exec sleep 1000' >/dev/null 2>&1 & sleep 0.5; echo $!").strip()
    c.zone = microvm.vm.create(16 * MIB, cgroup=c.cgroup)
    report = c.zone.attach_cgroup(c.cgroup, with_pages=True)
    pages = own(c.pages(pid))
    assert report.migrated > 0
    assert inside(pages, c.zone) == total(pages), (report, pages)
    microvm.guest.run(f"kill {pid}; sleep 0.3; rmdir /sys/fs/cgroup/c/outer/in")
    end(c)


def test_attach_with_pages_again_takes_in_the_rest(microvm):
    c = late(microvm, "again", 64 * MIB, anon=12)
    c.zone.attach_cgroup(c.cgroup)
    with pytest.raises(czone.Error) as e:
        c.zone.attach_cgroup(c.cgroup)
    assert e.value.errno == errno.EEXIST
    report = c.zone.attach_cgroup(c.cgroup, with_pages=True)
    assert report.migrated >= 12 * MIB
    assert inside(own(c.pages()), c.zone) == total(own(c.pages()))
    assert c.zone.attach_cgroup(c.cgroup, with_pages=True).migrated == 0
    assert c.verify() == 12 * MIB
    end(c)


def oom_kills(microvm, name):
    text = microvm.guest.run(f"cat /sys/fs/cgroup/c/{name}/memory.events")
    return int(dict(line.split() for line in text.splitlines())["oom_kill"])


def test_attach_with_more_pages_than_the_zone_has(microvm):
    c = late(microvm, "toomuch", 16 * MIB, anon=40)
    with pytest.raises(czone.Error) as e:
        c.zone.attach_cgroup(c.cgroup, with_pages=True)
    assert e.value.errno == errno.ENOSPC, e.value
    report = e.value.report
    print(report, c.zone.stats())
    assert 12 * MIB <= report.migrated <= 16 * MIB
    assert report.migrated + report.stuck_full >= 40 * MIB, report
    assert oom_kills(microvm, "toomuch") == 0
    assert c.zone.stats().cgroup_id != 0, "it is attached all the same"
    assert c.verify() == 40 * MIB
    c.zone.resize(64 * MIB)
    assert c.zone.attach_cgroup(c.cgroup, with_pages=True).migrated >= 24 * MIB
    assert inside(own(c.pages()), c.zone) == total(own(c.pages()))
    assert c.verify() == 40 * MIB
    end(c)


def test_attach_with_pages_ends_in_time_and_can_go_on(microvm):
    c = late(microvm, "slow", 64 * MIB, anon=40)
    with pytest.raises(czone.Error) as e:
        c.zone.attach_cgroup(c.cgroup, with_pages=True, timeout=0.01)
    assert e.value.errno == errno.ETIMEDOUT, e.value
    c.zone.attach_cgroup(c.cgroup, with_pages=True)
    assert inside(own(c.pages()), c.zone) == total(own(c.pages()))
    assert c.verify() == 40 * MIB
    end(c)


def test_attach_with_pages_that_a_spilling_zone_has_no_room_for(microvm):
    c = Container(microvm, "toospill").workload(anon=24)
    c.wait("ready")
    c.zone = microvm.vm.create(8 * MIB, spill=True)
    with pytest.raises(czone.Error) as e:
        c.zone.attach_cgroup(c.cgroup, with_pages=True)
    assert e.value.errno == errno.ENOSPC, e.value
    assert 6 * MIB <= e.value.report.migrated <= 8 * MIB
    assert c.verify() == 24 * MIB
    end(c)


# ---- kernel memory, spilling

def test_kernel_memory_is_counted_for_the_container(microvm):
    c = Container(microvm, "kmem", 32 * MIB).workload(anon=16)
    c.wait("ready")
    s = c.zone.stats()
    cgroup = int(microvm.guest.run(
        f"awk '$1 == \"kernel\" {{ print $2 }}' /sys/fs/cgroup{c.cgroup}/memory.stat"))
    assert s.kernel >= 16 * MIB // 512, "page tables alone"
    assert abs(s.kernel - cgroup) <= 512 << 10, (s.kernel, cgroup)
    end(c)
    assert microvm.vm.create(4 * MIB).destroy() is not None


def test_only_a_spilling_zone_spills(microvm):
    strict = Container(microvm, "strict", 24 * MIB).workload(anon=16)
    spill = Container(microvm, "spilling", 24 * MIB, spill=True).workload(anon=40)
    for c in (strict, spill):
        c.wait("ready")
    assert strict.zone.stats().spilled == 0
    outside = 40 * MIB - inside(spill.pages(), spill.zone)
    spilled = spill.zone.stats().spilled
    assert spilled >= outside >= 15 * MIB, (spilled, outside)
    assert spilled <= outside + 4 * MIB
    hog = Container(microvm, "hog", 16 * MIB).workload(anon=48)
    microvm.guest.run("i=0; while grep -q 'populated 1' /sys/fs/cgroup/c/hog/cgroup.events; do"
                      " i=$((i+1)); [ $i -gt 600 ] && exit 1; sleep 0.1; done")
    assert "ready" not in hog.log()
    assert hog.zone.stats().spilled == 0, "it would rather die"
    end(strict, spill, hog)


# ---- destroy by force

def test_a_refused_destroy_leaves_a_zone_that_works(microvm):
    before = microvm.pool()
    c = Container(microvm, "forced", 64 * MIB).workload(anon=16, shm=4, file=4, free=50)
    c.wait("ready")
    for _ in range(2):
        with pytest.raises(czone.Error) as e:
            c.zone.destroy()
        assert e.value.errno == errno.EBUSY
        assert e.value.report.migrated == 0
    microvm.guest.run("container start forced workload anon=8 seed=2")
    c.wait("ready")
    assert c.zone.stats().used >= 32 * MIB, "new tasks are served"
    assert inside(own(c.pages()), c.zone) == total(own(c.pages()))
    report = c.zone.destroy(with_tasks=True)
    print(report)
    # The file's clean pages may be dropped instead.
    assert report.migrated >= 28 * MIB and report.migrated + report.dropped >= 32 * MIB
    assert (report.stuck_pinned, report.stuck_poisoned, report.stuck_other) == (0, 0, 0)
    assert microvm.pool() <= before + 4 * MIB     # its memory map may follow later
    assert c.verify() == 24 * MIB
    assert c.idle() == 8 * MIB
    c.zone = None
    end(c)


# ---- file cache

IMAGE = "/bin/workload"     # nobody runs it here, so that its cache can be dropped


class Reader(Container):
    """A container that reads a file whenever it is told to."""

    def __init__(self, microvm, name, size, path=IMAGE, **create):
        super().__init__(microvm, name, size, **create)
        self.rounds = 0
        self.pid = int(self.guest.run(
            f"container start {name} sh -c 'echo up; n=0; while :; do"
            f" if [ -e /tmp/go ]; then rm /tmp/go; dd if={path} of=/dev/null bs=1M; n=$((n+1)); echo round n=$n; fi;"
            " sleep 0.05; done'"))
        self.wait("up")

    def read(self):
        """Sectors that it took to read the file."""
        before = sectors(self.microvm)
        self.rounds += 1
        self.guest.run(f"touch /proc/{self.pid}/root/tmp/go; i=0;"
                       f" until grep -q 'round n={self.rounds}$' /run/c/{self.name}.log; do"
                       " i=$((i+1)); [ $i -gt 600 ] && exit 1; sleep 0.05; done")
        return sectors(self.microvm) - before


def sectors(microvm):
    """Read so far from the disks."""
    return sum(int(microvm.guest.run(f"awk '{{ print $3 }}' /sys/block/{disk}/stat"))
               for disk in ("vda", "vdb"))


def drop_caches(microvm):
    microvm.guest.run("sync; echo 3 > /proc/sys/vm/drop_caches")


@pytest.fixture
def image_bytes(microvm):
    return int(microvm.guest.run(f"stat -c %s /images/root{IMAGE}"))


def shared_zone(microvm, size=16 * MIB):
    return Container(microvm, "base", size)


def test_shared_cache_is_kept_once_and_outlives_its_reader(microvm, image_bytes):
    base = shared_zone(microvm)
    a, b = (Reader(microvm, name, 32 * MIB, file_zone=base.zone) for name in ("ra", "rb"))
    assert a.zone.stats().file_zone == b.zone.stats().file_zone == base.zone.id
    assert base.zone.stats().file_zone == 0
    drop_caches(microvm)
    shared, private = base.zone.stats(), a.zone.stats()
    assert a.read() * 512 >= image_bytes // 2, "the cache was not cold: the test shows nothing"
    first = base.zone.stats()
    assert first.file >= image_bytes * 3 // 4 and first.used >= first.file
    assert first.file > shared.file
    assert a.zone.stats().file <= private.file + 64 * PAGE, "nothing of it in the reader's zone"
    assert b.read() == 0
    assert base.zone.stats().file <= first.file + 4 * PAGE, "it is kept once"
    assert b.zone.stats().file <= 64 * PAGE
    end(a)
    assert base.zone.stats().file >= first.file - 4 * PAGE
    assert b.read() == 0, "the death of the first reader is nothing to the second"
    end(b)
    report = base.zone.destroy()
    assert report.dropped >= image_bytes * 3 // 4, report
    base.remove()


def test_private_cache_goes_with_its_zone(microvm, image_bytes):
    a, b = (Reader(microvm, name, 32 * MIB) for name in ("pa", "pb"))
    assert a.zone.stats().file_zone == 0
    drop_caches(microvm)
    assert a.read() * 512 >= image_bytes // 2
    assert a.zone.stats().file >= image_bytes * 3 // 4
    assert b.read() == 0, "it is cached, though in the zone of the other"
    a.stop()
    report = a.zone.destroy()
    assert report.dropped + report.migrated >= image_bytes * 3 // 4, report
    a.remove()
    end(b)


def test_cache_of_writable_files_stays_private(microvm):
    base = shared_zone(microvm)
    c = Container(microvm, "writer", 48 * MIB, file_zone=base.zone).workload(file=16)
    c.wait("ready")
    assert c.zone.stats().file >= 16 * MIB
    assert base.zone.stats().file <= 4 * MIB
    assert inside(own(c.pages()), c.zone) == total(own(c.pages()))
    end(c, base)


def test_a_shared_zone_that_goes_leaves_its_readers_private(microvm, image_bytes):
    base = shared_zone(microvm)
    c = Reader(microvm, "orphan", 32 * MIB, file_zone=base.zone)
    c.read()
    base.zone.destroy()
    assert c.zone.stats().file_zone == 0
    drop_caches(microvm)
    c.read()
    assert c.zone.stats().file >= image_bytes * 3 // 4
    others = [microvm.vm.create(4 * MIB) for _ in range(4)]
    assert base.zone.id not in [z.id for z in others], "an id that is still named is not used again"
    for zone in others:
        zone.destroy()
    end(c)
    base.zone = None
    end(base)


@pytest.fixture
def big_file(microvm):
    """16 MiB on the scratch disk, which is read-only for as long as the test runs."""
    microvm.guest.run("mkdir -p /scratch/full; dd if=/dev/zero of=/scratch/full/big bs=1M count=16"
                      " 2>/dev/null; sync; mount -o remount,ro /scratch")
    yield "/data/big"
    microvm.guest.run("mount -o remount,rw /scratch")


@pytest.mark.parametrize("limit", ["zone", "memory.max"])
def test_a_full_shared_zone_costs_no_reader_anything(microvm, big_file, limit):
    base = shared_zone(microvm, 4 * MIB if limit == "zone" else 32 * MIB)
    if limit == "memory.max":
        microvm.guest.run(f"echo 4M > /sys/fs/cgroup{base.cgroup}/memory.max")
    c = Reader(microvm, "full", 48 * MIB, path=big_file, file_zone=base.zone)
    drop_caches(microvm)
    for _ in range(2):
        c.read()
    assert c.log().count("16+0 records in") == 2, c.log()
    print(base.zone.stats(), c.zone.stats())
    assert 1 * MIB <= base.zone.stats().file <= 4 * MIB
    assert oom_kills(microvm, "full") == 0 and oom_kills(microvm, "base") == 0
    microvm.guest.run("mount -o remount,rw /scratch")
    end(c, base)


def test_what_no_file_zone_can_be(microvm):
    base = microvm.vm.create(4 * MIB)
    second = microvm.vm.create(4 * MIB, file_zone=base)
    with pytest.raises(czone.Error) as e:
        microvm.vm.create(4 * MIB, file_zone=second)
    assert e.value.errno == errno.EINVAL
    for zone in (second, base):
        zone.destroy()
    with pytest.raises(czone.Error) as e:
        microvm.vm.create(4 * MIB, file_zone=base)
    assert e.value.errno == errno.ENOENT
    assert list(microvm.vm.zones()) == []
