# SPDX-License-Identifier: LGPL-2.1-or-later
"""Memory zones for the containers of a virtual machine.

Inside a guest, on the kernel that runs there:

    import czone

    with czone.open() as vm, vm.create(64 << 20, cgroup="/pods/a") as zone:
        ...                      # run something in that cgroup
        zone.reclaim()           # bytes that came back to the host
        print(zone.stats())

On a host, on a VM that this process starts:

    with czone.VM.start(state_dir="/tmp/vm", kernel="bzImage", initrd="initrd.gz") as vm:
        zone = vm.create(64 << 20, cgroup="/c/a")

Without either, to try it and to test what uses it:

    with czone.open("test:///default") as vm, vm.create(64 << 20, cgroup="/pods/a") as zone:
        with vm.start_task("/pods/a") as task:
            task.fill(0, 32 << 20, 1)        # what a container would do
            task.discard(0, 24 << 20)
            print(zone.reclaim(), "bytes are free again", zone.stats())

Sizes and addresses are bytes, times are seconds. Statistics are dataclasses:
dataclasses.asdict() makes rows for a table of them. Waiting calls let other
threads run, and those whose names end in _async other coroutines. Failures are czone.Error, an OSError whose errno says what and
whose text says why.
"""

import asyncio
import atexit
import errno
import os
import select
import signal
import subprocess
import weakref
from dataclasses import dataclass
from enum import IntEnum
from typing import (AsyncIterator, Callable, Iterator, List, Mapping, NamedTuple, Optional, Sequence,
                    Tuple, Union)

from . import _czone

__all__ = [
    "AttachReport", "AuditReport", "BLOCK", "ClosedError", "DestroyReport", "Error", "Event", "EventKind",
    "EventLoop", "Kvm", "LogLevel", "POOL_STEP", "PoolBacking", "ProbeItem", "ProbeState", "Process",
    "Range", "Task", "VM", "VMStats", "Zone", "ZoneStats", "domain_xml", "open", "probe", "set_log", "version",
]

BLOCK = _czone.CZONE_BLOCK
"""Zones are made and resized in steps of this many bytes."""

POOL_STEP = _czone.CZONE_POOL_STEP
"""A pool grows in steps of this many bytes."""


class Error(OSError):
    """A call failed: errno as in czone.h, and a text for people.

    `report` is the DestroyReport of a destroy() that found the zone busy, or the
    AttachReport of an attach_cgroup() that could not move all; `returned` what a
    reclaim() brought back that ran out of time; else None.
    """

    report: Union["AttachReport", "DestroyReport", None] = None
    returned: Optional[int] = None


class ClosedError(ValueError):
    """The object was closed before."""


_czone.set_error_class(Error)


class PoolBacking(IntEnum):
    """What lies behind the pool of a VM."""

    MEMFD = _czone.CZONE_POOL_MEMFD
    FILE = _czone.CZONE_POOL_FILE


class EventLoop(IntEnum):
    """Whose libvirt event loop runs."""

    OWN = _czone.CZONE_EVENT_LOOP_OWN
    CALLER = _czone.CZONE_EVENT_LOOP_CALLER


class EventKind(IntEnum):
    """What has happened."""

    ZONE_CREATED = _czone.CZONE_EVENT_ZONE_CREATED
    ZONE_DESTROYED = _czone.CZONE_EVENT_ZONE_DESTROYED
    ZONE_FULL = _czone.CZONE_EVENT_ZONE_FULL
    RECLAIMED = _czone.CZONE_EVENT_RECLAIMED
    TARGET_MET = _czone.CZONE_EVENT_TARGET_MET
    TARGET_MISSED = _czone.CZONE_EVENT_TARGET_MISSED
    GUEST_READY = _czone.CZONE_EVENT_GUEST_READY
    GUEST_LOST = _czone.CZONE_EVENT_GUEST_LOST
    VM_GONE = _czone.CZONE_EVENT_VM_GONE
    STRAY = _czone.CZONE_EVENT_STRAY
    OVER_QUOTA = _czone.CZONE_EVENT_OVER_QUOTA


class Kvm(IntEnum):
    """Hardware virtualisation or emulation."""

    AUTO = _czone.CZONE_KVM_AUTO
    ON = _czone.CZONE_KVM_ON
    OFF = _czone.CZONE_KVM_OFF


class LogLevel(IntEnum):
    """How much a message matters."""

    ERROR = _czone.CZONE_LOG_ERROR
    WARNING = _czone.CZONE_LOG_WARNING
    INFO = _czone.CZONE_LOG_INFO
    DEBUG = _czone.CZONE_LOG_DEBUG


class ProbeState(IntEnum):
    """Is a piece there?"""

    OK = _czone.CZONE_PROBE_OK
    WEAK = _czone.CZONE_PROBE_WEAK
    MISSING = _czone.CZONE_PROBE_MISSING


class ProbeItem(NamedTuple):
    """One finding of probe(): what there is, and how to get what is missing."""

    name: str
    state: ProbeState
    found: str
    remedy: str


class Range(NamedTuple):
    """A contiguous range of a zone, in guest-physical addresses."""

    start: int
    size: int


@dataclass(frozen=True)
class Event:
    """What has happened to a zone, or to the VM (zone 0).

    `bytes` is what czone.h says for this kind, None where it is not known; `errno`
    is 0 but for a reclaim or a target that failed; so many events before this one
    were `lost` because nobody dispatched.
    """

    kind: EventKind
    zone: int
    bytes: Optional[int]
    errno: int
    lost: int


@dataclass(frozen=True)
class ZoneStats:
    """Bytes. size = used + free_backed + free_unbacked. None: this side cannot know.

    `kernel` is memory of the kernel for the cgroup, outside the zone; `file_zone` the
    id of the zone that file cache is shared in, 0 without.
    """

    id: int
    spill: bool
    size: int
    used: int
    free_backed: int
    free_unbacked: int
    file: int
    returned: int
    spilled: int
    host_resident: Optional[int]
    cgroup_id: int
    kernel: Optional[int]
    file_zone: Optional[int]
    idle_delay: Optional[float]
    idle_floor: Optional[int]


@dataclass(frozen=True)
class VMStats:
    """Bytes. None: this side cannot know."""

    pool_size: int
    pool_used: int
    metadata: int
    boot_size: int
    boot_free: int
    zones: int
    returned: int
    host_pool: Optional[int]
    host_boot: Optional[int]
    host_pss: Optional[int]
    pid: int
    target: Optional[int]
    actual: Optional[int]
    stray: Optional[int]
    taken: int
    boot_free_backed: Optional[int]


@dataclass(frozen=True)
class AttachReport:
    """What became of the pages that a cgroup had before, in bytes."""

    migrated: int
    stuck_pinned: int
    stuck_full: int
    stuck_other: int


@dataclass(frozen=True)
class AuditReport:
    """What an audit found, in bytes: see czone_audit()."""

    zones: int
    held: int
    stray: int
    taken: int
    over_quota: int


@dataclass(frozen=True)
class DestroyReport:
    """What a destroy did, in bytes."""

    returned: int
    dropped: int
    migrated: int
    stuck_pinned: int
    stuck_poisoned: int
    stuck_other: int


def _milliseconds(timeout: Optional[float]) -> int:
    """None is the default; shorter than a millisecond is a millisecond."""
    if timeout is None:
        return 0
    if not timeout > 0:
        raise ValueError(f"timeout {timeout!r} is not positive")
    return max(1, int(min(timeout * 1000, 0xFFFFFFFF)))


def _error(result: int) -> Error:
    return Error(-result, _czone.czone_error_detail() or _czone.czone_strerror(result))


def _returned(answer) -> int:
    result, returned = answer
    if result == 0:
        return returned
    error = _error(result)
    if result == -errno.ETIMEDOUT:
        error.returned = returned
    raise error


def _reclaim_arguments(size: Optional[int], with_cache: bool, timeout: Optional[float]):
    options = {"timeout_ms": _milliseconds(timeout)}
    if with_cache:
        options["flags"] = _czone.CZONE_RECLAIM_WITH_CACHE
    return _czone.CZONE_UNKNOWN if size is None else size, options


def _all(function, handle) -> list:
    """Everything that there is, though it may grow while we ask."""
    room = 64
    while True:
        count, found = function(handle, room)
        if count <= room:
            return found
        room = count


def _descriptor(stream) -> int:
    """As subprocess takes them."""
    if stream == subprocess.DEVNULL:
        return -1
    return stream if isinstance(stream, int) else stream.fileno()


class Process:
    """A command that Zone.spawn() started, a child of this process. As a context
    manager it is killed at the end, if it runs still.

    `returncode` is as in subprocess: None while it runs or nobody has waited for
    it, the exit status, or -N when signal N ended it.
    """

    def __init__(self, pidfd: int, pid: int):
        self._close = weakref.finalize(self, os.close, pidfd)
        self._pidfd = pidfd
        self.pid = pid
        self.returncode: Optional[int] = None

    def __repr__(self):
        return f"<czone.Process {self.pid}, returncode {self.returncode}>"

    def fileno(self) -> int:
        """A pidfd, readable once the command has ended."""
        if not self._close.alive:
            raise ClosedError("the process has been waited for")
        return self._pidfd

    def poll(self) -> Optional[int]:
        """returncode, after a look whether it has ended."""
        if self.returncode is None:
            result = os.waitid(os.P_PIDFD, self.fileno(), os.WEXITED | os.WNOHANG)
            if result is not None:
                exited = result.si_code == os.CLD_EXITED
                self.returncode = result.si_status if exited else -result.si_status
                self._close()
        return self.returncode

    def wait(self, timeout: Optional[float] = None) -> int:
        """Wait until it ends; subprocess.TimeoutExpired after so many seconds."""
        if self.returncode is None:
            poll = select.poll()
            poll.register(self.fileno(), select.POLLIN)
            if not poll.poll(None if timeout is None else timeout * 1000):
                raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
            self.poll()
        assert self.returncode is not None
        return self.returncode

    async def wait_async(self) -> int:
        """wait(), while other coroutines run."""
        if self.returncode is None:
            loop = asyncio.get_running_loop()
            ended = asyncio.Event()
            loop.add_reader(self.fileno(), ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(self._pidfd)
        return self.wait()

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""
        if self.returncode is None:
            try:
                signal.pidfd_send_signal(self.fileno(), number)
            except ProcessLookupError:
                pass

    def kill(self) -> None:
        """send_signal(SIGKILL)."""
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *exception) -> None:
        self.kill()
        self.wait()


class Zone:
    """A zone. Made by VM.create() and VM.lookup(). As a context manager it is
    destroyed at the end."""

    def __init__(self, handle):
        self._handle = handle
        self._id = _czone.czone_id(handle)

    @property
    def id(self) -> int:
        return self._id

    def __repr__(self):
        return f"<czone.Zone {self._id}>"

    def attach_cgroup(self, path: str, *, with_pages: bool = False,
                      timeout: Optional[float] = None) -> AttachReport:
        """Let the memory of a cgroup's tasks come from here from now on; with_pages
        moves what they have already."""
        flags = _czone.CZONE_ATTACH_WITH_PAGES if with_pages else 0
        result, values = _czone.czone_attach_cgroup(self._handle, os.fspath(path), flags,
                                                    _milliseconds(timeout))
        report = AttachReport(**values)
        if result == 0:
            return report
        error = _error(result)
        if result in (-errno.ENOSPC, -errno.ETIMEDOUT):
            error.report = report
        raise error

    def spawn(self, argv: Sequence[str], *, env: Optional[Mapping[str, str]] = None,
              directory: Optional[str] = None, cgroup: Optional[str] = None, stdin=None,
              stdout=None, stderr=None, timeout: Optional[float] = None) -> Process:
        """Start a command inside the zone's cgroup, or in one below it: its first
        page comes from the zone already. Guest side only.

        stdin, stdout and stderr are files or descriptors, subprocess.DEVNULL, or
        None: those of this process. No other descriptor is passed on.
        """
        streams = tuple(number if stream is None else _descriptor(stream)
                        for number, stream in enumerate((stdin, stdout, stderr)))
        pidfd, pid = _czone.czone_spawn(self._handle, {
            "argv": tuple(os.fspath(word) for word in argv),
            "envp": None if env is None else tuple(f"{k}={v}" for k, v in env.items()),
            "directory": None if directory is None else os.fspath(directory),
            "cgroup": None if cgroup is None else os.fspath(cgroup),
            "fds": streams, "n_fds": len(streams),
            "timeout_ms": _milliseconds(timeout)})
        return Process(pidfd, pid)

    def resize(self, size: int, *, timeout: Optional[float] = None) -> None:
        """Grow or shrink."""
        _czone.czone_resize(self._handle, size, _milliseconds(timeout))

    def reclaim(self, size: Optional[int] = None, *, with_cache: bool = False,
                timeout: Optional[float] = None) -> int:
        """Give about so many free bytes back to the host, or all; how many came back."""
        size, options = _reclaim_arguments(size, with_cache, timeout)
        return _returned(_czone.czone_reclaim(self._handle, size, options))

    def set_idle_return(self, delay: Optional[float], *, floor: int = 0,
                        timeout: Optional[float] = None) -> None:
        """Let memory that was free for so many seconds go back to the host by
        itself, but for floor bytes. None switches it off, as it is at first."""
        _czone.czone_set_idle_return(self._handle, {
            "delay_ms": 0 if delay is None else _milliseconds(delay), "floor": floor,
            "timeout_ms": _milliseconds(timeout)})

    def stats(self) -> ZoneStats:
        values = _czone.czone_stats(self._handle)
        values["spill"] = bool(values.pop("flags") & _czone.CZONE_CREATE_SPILL_ZONE)
        delay_ms = values.pop("idle_delay_ms")
        values["idle_delay"] = None if delay_ms is None else delay_ms / 1000
        return ZoneStats(**values)

    def ranges(self) -> List[Range]:
        return [Range(*r) for r in _all(_czone.czone_ranges, self._handle)]

    def destroy(self, *, with_tasks: bool = False,
                timeout: Optional[float] = None) -> DestroyReport:
        """Take the zone down and give all of its memory back."""
        flags = _czone.CZONE_DESTROY_WITH_TASKS if with_tasks else 0
        result, values = _czone.czone_destroy(self._handle, flags, _milliseconds(timeout))
        report = DestroyReport(**values)
        if result == 0:
            return report
        error = _error(result)
        if result in (-errno.EBUSY, -errno.ETIMEDOUT):
            error.report = report
        raise error

    # A thread waits in these. Who cancels one stops waiting; the call goes on to its limit.

    async def attach_cgroup_async(self, path: str, **options) -> AttachReport:
        """attach_cgroup(), while other coroutines run."""
        return await asyncio.to_thread(self.attach_cgroup, path, **options)

    async def set_idle_return_async(self, delay: Optional[float], **options) -> None:
        """set_idle_return(), while other coroutines run."""
        await asyncio.to_thread(self.set_idle_return, delay, **options)

    async def stats_async(self) -> ZoneStats:
        """stats(), while other coroutines run."""
        return await asyncio.to_thread(self.stats)

    async def ranges_async(self) -> List[Range]:
        """ranges(), while other coroutines run."""
        return await asyncio.to_thread(self.ranges)

    async def resize_async(self, size: int, **options) -> None:
        """resize(), while other coroutines run."""
        await asyncio.to_thread(self.resize, size, **options)

    async def reclaim_async(self, size: Optional[int] = None, **options) -> int:
        """reclaim(), while other coroutines run."""
        return await asyncio.to_thread(self.reclaim, size, **options)

    async def destroy_async(self, **options) -> DestroyReport:
        """destroy(), while other coroutines run."""
        return await asyncio.to_thread(self.destroy, **options)

    def __enter__(self) -> "Zone":
        return self

    def __exit__(self, *exception) -> None:
        try:
            self.destroy()
        except Error as error:
            if error.errno != errno.ENOENT:
                raise


def _vm_options(options: dict) -> dict:
    for name in ("state_dir", "emulator", "kernel", "initrd", "channel", "pool_dir"):
        if options.get(name) is not None:
            options[name] = os.fspath(options[name])
    return options


class Task:
    """Something that runs in a cgroup of a test VM, and uses memory there. Made by
    VM.start_task(). As a context manager it ends at the end."""

    def __init__(self, handle):
        self._running_handle = handle

    @property
    def _handle(self):
        if self._running_handle is None:
            raise ClosedError("the task has ended")
        return self._running_handle

    def fill(self, offset: int, size: int, value: int) -> None:
        """Make each byte of a range this value."""
        _czone.czone_test_fill(self._handle, offset, size, value)

    def read(self, offset: int, size: int) -> bytes:
        return _czone.czone_test_read(self._handle, offset, size)

    def discard(self, offset: int, size: int) -> None:
        """Give up the whole 4 KiB pages of a range."""
        _czone.czone_test_discard(self._handle, offset, size)

    def cache(self, size: int) -> None:
        """Read so much of a file."""
        _czone.czone_test_cache(self._handle, size)

    def exit(self) -> None:
        """End. Once is enough, more do no harm."""
        self._running_handle = None

    def __enter__(self) -> "Task":
        return self

    def __exit__(self, *exception) -> None:
        self.exit()


class VM:
    """A kernel that has zones. Made by open() and VM.start(). As a context
    manager it is closed at the end, and stopped if start() made it."""

    def __init__(self, handle, started: bool = False):
        self._open_handle = handle
        self._listener = None
        self._stop = weakref.finalize(self, _czone.czone_vm_stop, handle) if started else None

    @classmethod
    def start(cls, *, disks=(), wait: bool = True, timeout: Optional[float] = None,
              **options) -> "VM":
        """Start a VM whose device this process serves, and wait for its guest, or
        leave that to wait() and wait_async().

        The options are those of struct czone_vm_opts in czone.h: state_dir and
        kernel are required, initrd, cmdline, boot_bytes, pool_bytes and so on
        are not.
        """
        options = _vm_options(options)
        if disks:
            options["disks"] = tuple(os.fspath(disk) for disk in disks)
        options["timeout_ms"] = _milliseconds(timeout)
        if not wait:
            options["flags"] = _czone.CZONE_VM_NO_WAIT
        return cls(_czone.czone_vm_start(options), started=True)

    @classmethod
    def attach(cls, *, name: str, state_dir=None, uri: Optional[str] = None,
               timeout: Optional[float] = None, **options) -> "VM":
        """Go on with a VM whose process has died, or has let go of it with detach()."""
        options.update(state_dir=state_dir, name=name, uri=uri, timeout_ms=_milliseconds(timeout))
        return cls(_czone.czone_vm_attach(_vm_options(options)), started=True)

    @classmethod
    def open_domain(cls, domain, *, timeout: Optional[float] = None) -> "VM":
        """The same with a virDomain of the libvirt package. It goes on when this is closed."""
        return cls(_czone.czone_open_domain(domain, {"timeout_ms": _milliseconds(timeout)}))

    @classmethod
    def serve(cls, path, *, pool_start: int, pool_bytes: int, backing_shift: int = 0,
              report_shift: int = 0) -> "VM":
        """Be the device of a VM that somebody else starts, on this socket. End the
        VM before this is closed."""
        return cls(_czone.czone_serve_socket({
            "path": os.fspath(path), "pool_start": pool_start, "pool_bytes": pool_bytes,
            "backing_shift": backing_shift, "report_shift": report_shift}))

    @property
    def _handle(self):
        if self._open_handle is None:
            raise ClosedError("the VM was closed")
        return self._open_handle

    def create(self, size: int, *, cgroup: Optional[str] = None, spill: bool = False,
               file_zone: Optional[Zone] = None, timeout: Optional[float] = None) -> Zone:
        """Make a zone, attached to a cgroup if one is given. The cache of read-only
        file systems goes to file_zone, or stays in the new zone without one."""
        options = {
            "size": size,
            "cgroup": None if cgroup is None else os.fspath(cgroup),
            "flags": _czone.CZONE_CREATE_SPILL_ZONE if spill else 0,
            "timeout_ms": _milliseconds(timeout),
            "file_zone": None if file_zone is None else file_zone._handle,
        }
        return Zone(_czone.czone_create(self._handle, options))

    def lookup(self, id: int) -> Zone:
        """The zone with this id."""
        return Zone(_czone.czone_lookup(self._handle, id))

    def zones(self) -> List[Zone]:
        """All zones, in the order of their ids."""
        found = []
        for id in _all(_czone.czone_list, self._handle):
            try:
                found.append(self.lookup(id))
            except Error as error:      # gone meanwhile
                if error.errno != errno.ENOENT:
                    raise
        return found

    def stats(self) -> VMStats:
        return VMStats(**_czone.czone_vm_stats(self._handle))

    def reclaim(self, size: Optional[int] = None, *, with_cache: bool = False,
                timeout: Optional[float] = None) -> int:
        """The same as Zone.reclaim(), from every zone and from the memory outside the pool."""
        size, options = _reclaim_arguments(size, with_cache, timeout)
        return _returned(_czone.czone_vm_reclaim(self._handle, size, options))

    def set_target(self, size: Optional[int], *, keep_cache: bool = False,
                   timeout: Optional[float] = None) -> int:
        """Bring the VM's host memory down to so much, taking free memory and then
        file cache; how much it is now. None: no target any more. When what is left
        is in use the error is EBUSY."""
        options = {"timeout_ms": _milliseconds(timeout)}
        if keep_cache:
            options["flags"] = _czone.CZONE_TARGET_KEEP_CACHE
        result, actual = _czone.czone_set_target(
            self._handle, _czone.CZONE_UNKNOWN if size is None else size, options)
        if result:
            raise _error(result)
        return actual

    def wait(self, timeout: Optional[float] = None) -> None:
        """Until the guest's driver is up and has taken its pool."""
        _czone.czone_vm_wait(self._handle, _milliseconds(timeout))

    async def wait_async(self, timeout: Optional[float] = None) -> None:
        """wait(), while other coroutines run."""
        await asyncio.to_thread(self.wait, timeout)

    async def set_target_async(self, size: Optional[int], **options) -> int:
        """set_target(), while other coroutines run."""
        return await asyncio.to_thread(self.set_target, size, **options)

    async def stats_async(self) -> VMStats:
        """stats(), while other coroutines run."""
        return await asyncio.to_thread(self.stats)

    async def lookup_async(self, id: int) -> Zone:
        """lookup(), while other coroutines run."""
        return await asyncio.to_thread(self.lookup, id)

    async def zones_async(self) -> List[Zone]:
        """zones(), while other coroutines run."""
        return await asyncio.to_thread(self.zones)

    def on_event(self, function: Optional[Callable[[Event], None]]) -> None:
        """Whom dispatch() calls when something happens to the VM or its zones. None:
        nobody, until when the VM keeps the function, and what that refers to."""
        if self._listener is None:
            if function is None:
                return
            listener = self._listener = [None]

            def tell(kind, zone, size, error, lost):
                if listener[0] is not None:
                    kinds = EventKind.__members__.values()
                    listener[0](Event(EventKind(kind) if kind in kinds else kind, zone,
                                      None if size == _czone.CZONE_UNKNOWN else size,
                                      -error, lost))

            _czone.czone_set_event_fn(self._handle, tell)
        self._listener[0] = function

    def fileno(self) -> int:
        """Readable when dispatch() has something to do: for select and event loops."""
        return _czone.czone_fd(self._handle)

    def dispatch(self, timeout: float = 0) -> int:
        """Call the function of on_event() for what has happened, after waiting for
        something up to the timeout; how many there were."""
        return _czone.czone_dispatch(self._handle, _milliseconds(timeout) if timeout else 0)

    def dispatch_in_thread(self, on: bool = True) -> None:
        """Let a thread of the library dispatch, or not any more."""
        _czone.czone_dispatch_in_thread(self._handle, on)

    async def events(self) -> AsyncIterator[Event]:
        """What happens from now on, until the VM has gone. One at a time for a VM."""
        happened: asyncio.Queue = asyncio.Queue()
        loop, fd = asyncio.get_running_loop(), self.fileno()
        self.on_event(happened.put_nowait)
        loop.add_reader(fd, self.dispatch)
        try:
            while True:
                event = await happened.get()
                yield event
                if event.kind == EventKind.VM_GONE:
                    return
        finally:
            loop.remove_reader(fd)
            self.on_event(None)

    def audit(self, *, take: bool = False, force: bool = False,
              timeout: Optional[float] = None) -> AuditReport:
        """Compare what the host has behind the pool with what zones hold; take back
        what no zone holds, with the guest's help, or force it while nobody makes zones."""
        flags = (_czone.CZONE_AUDIT_TAKE if take else 0) | (_czone.CZONE_AUDIT_FORCE if force else 0)
        result, values = _czone.czone_audit(
            self._handle, {"flags": flags, "timeout_ms": _milliseconds(timeout)})
        report = AuditReport(**values)
        if result == 0:
            return report
        error = _error(result)
        if result == -errno.EBUSY:
            error.report = report
        raise error

    async def audit_async(self, **options) -> AuditReport:
        """audit(), while other coroutines run."""
        return await asyncio.to_thread(self.audit, **options)

    def set_quota(self, *, pool: int = 0, zone: int = 0) -> None:
        """What zones may hold, all together and each; 0: no limit."""
        _czone.czone_set_quota(self._handle, {"pool_bytes": pool, "zone_bytes": zone})

    def grow_pool(self, size: int, *, timeout: Optional[float] = None) -> None:
        """Make the pool larger, for good, by a multiple of POOL_STEP."""
        _czone.czone_pool_grow(self._handle, size, _milliseconds(timeout))

    async def grow_pool_async(self, size: int, **options) -> None:
        """grow_pool(), while other coroutines run."""
        await asyncio.to_thread(self.grow_pool, size, **options)

    async def create_async(self, size: int, **options) -> Zone:
        """create(), while other coroutines run."""
        return await asyncio.to_thread(self.create, size, **options)

    async def reclaim_async(self, size: Optional[int] = None, **options) -> int:
        """reclaim(), while other coroutines run."""
        return await asyncio.to_thread(self.reclaim, size, **options)

    def start_task(self, cgroup: str) -> Task:
        """Test VMs: start something that uses memory in a cgroup."""
        return Task(_czone.czone_test_start(self._handle, os.fspath(cgroup)))

    def fail_next(self, call: Optional[str], error: int) -> None:
        """Test VMs: make the next create, attach, resize, reclaim, destroy, stats,
        ranges, list or grow (None: any) fail with this errno; 0: none after all."""
        _czone.czone_test_fail(self._handle, call, -error)

    def stop(self) -> None:
        """End a VM that start() made, now; or a test VM."""
        _czone.czone_vm_stop(self._handle)

    def detach(self) -> None:
        """Let go of the VM and let it run, for another process to attach to."""
        _czone.czone_vm_detach(self._handle)
        self.close()

    def close(self) -> None:
        """Give the VM up, and stop it if start() made it. Once is enough, more do no harm."""
        if self._open_handle is None:
            return
        self._open_handle = None
        if self._listener:
            self._listener[0] = None
        if self._stop:
            self._stop()

    def __iter__(self) -> Iterator[Zone]:
        return iter(self.zones())

    def __enter__(self) -> "VM":
        return self

    def __exit__(self, *exception) -> None:
        self.close()


def open(uri: Optional[str] = None) -> VM:
    """Open the kernel that we run on, "guest:///", which is also the default; or a
    new VM of this process's own for tests, "test:///default"."""
    return VM(_czone.czone_open(uri))


def probe(*, guest: bool = False, **options) -> List[ProbeItem]:
    """What this machine has for VMs with zones, or the kernel that we run on for zones.

    The options are those of VM.start(), as far as they are known already.
    """
    what = _czone.CZONE_PROBE_GUEST if guest else _czone.CZONE_PROBE_HOST
    return [ProbeItem(name, ProbeState(state), found, remedy)
            for name, state, found, remedy in _czone.czone_probe(what, _vm_options(options))]


def domain_xml(xml: str, *, state_dir, **options) -> Tuple[str, str]:
    """A libvirt domain with what it lacks for zones, and what that was, a line for
    each. The options are those of VM.start() that are about the pool."""
    return _czone.czone_domain_xml(xml, _vm_options(dict(options, state_dir=state_dir)))


def set_log(function: Optional[Callable[[LogLevel, str], None]]) -> None:
    """Where messages go; None is nowhere. Any thread may call the function,
    which must not call set_log() itself."""
    if function is None:
        _czone.czone_set_log(None)
    else:
        _czone.czone_set_log(lambda level, message: function(LogLevel(level), message))
    atexit.unregister(_czone.czone_set_log)
    atexit.register(_czone.czone_set_log, None)


def version() -> str:
    return _czone.czone_version()
