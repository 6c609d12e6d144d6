# SPDX-License-Identifier: LGPL-2.1-or-later
from dataclasses import dataclass
from enum import IntEnum
from os import PathLike
from types import TracebackType
from typing import (IO, AsyncIterator, Callable, Iterable, Iterator, List, Mapping, NamedTuple,
                    Optional, Sequence, Tuple, Type, Union)

_Path = Union[str, PathLike[str]]
_Stream = Union[int, IO[str], IO[bytes], None]

BLOCK: int
POOL_STEP: int

class Error(OSError):
    report: Union[AttachReport, DestroyReport, None]
    returned: Optional[int]

class ClosedError(ValueError): ...

class PoolBacking(IntEnum):
    MEMFD = 0
    FILE = 1

class EventLoop(IntEnum):
    OWN = 0
    CALLER = 1

class EventKind(IntEnum):
    ZONE_CREATED = 1
    ZONE_DESTROYED = 2
    ZONE_FULL = 3
    RECLAIMED = 4
    TARGET_MET = 5
    TARGET_MISSED = 6
    GUEST_READY = 7
    GUEST_LOST = 8
    VM_GONE = 9
    STRAY = 10
    OVER_QUOTA = 11

class Kvm(IntEnum):
    AUTO = 0
    ON = 1
    OFF = 2

class LogLevel(IntEnum):
    ERROR = 0
    WARNING = 1
    INFO = 2
    DEBUG = 3

class ProbeState(IntEnum):
    OK = 0
    WEAK = 1
    MISSING = 2

class ProbeItem(NamedTuple):
    name: str
    state: ProbeState
    found: str
    remedy: str

class Range(NamedTuple):
    start: int
    size: int

@dataclass(frozen=True)
class Event:
    kind: EventKind
    zone: int
    bytes: Optional[int]
    errno: int
    lost: int

@dataclass(frozen=True)
class ZoneStats:
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
    migrated: int
    stuck_pinned: int
    stuck_full: int
    stuck_other: int

@dataclass(frozen=True)
class AuditReport:
    zones: int
    held: int
    stray: int
    taken: int
    over_quota: int

@dataclass(frozen=True)
class DestroyReport:
    returned: int
    dropped: int
    migrated: int
    stuck_pinned: int
    stuck_poisoned: int
    stuck_other: int

class Process:
    def __init__(self, pidfd: int, pid: int) -> None: ...
    pid: int
    returncode: Optional[int]
    def fileno(self) -> int: ...
    def poll(self) -> Optional[int]: ...
    def wait(self, timeout: Optional[float] = None) -> int: ...
    async def wait_async(self) -> int: ...
    def send_signal(self, number: int) -> None: ...
    def kill(self) -> None: ...
    def __enter__(self) -> Process: ...
    def __exit__(self, exc_type: Optional[Type[BaseException]], exc: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None: ...

class Zone:
    def __init__(self, handle: object) -> None: ...
    @property
    def id(self) -> int: ...
    def attach_cgroup(self, path: _Path, *, with_pages: bool = False,
                      timeout: Optional[float] = None) -> AttachReport: ...
    def spawn(self, argv: Sequence[_Path], *, env: Optional[Mapping[str, str]] = None,
              directory: Optional[_Path] = None, cgroup: Optional[_Path] = None,
              stdin: _Stream = None, stdout: _Stream = None, stderr: _Stream = None,
              timeout: Optional[float] = None) -> Process: ...
    def resize(self, size: int, *, timeout: Optional[float] = None) -> None: ...
    def reclaim(self, size: Optional[int] = None, *, with_cache: bool = False,
                timeout: Optional[float] = None) -> int: ...
    def set_idle_return(self, delay: Optional[float], *, floor: int = 0,
                        timeout: Optional[float] = None) -> None: ...
    def stats(self) -> ZoneStats: ...
    def ranges(self) -> List[Range]: ...
    def destroy(self, *, with_tasks: bool = False,
                timeout: Optional[float] = None) -> DestroyReport: ...
    async def attach_cgroup_async(self, path: _Path, *, with_pages: bool = False,
                                  timeout: Optional[float] = None) -> AttachReport: ...
    async def set_idle_return_async(self, delay: Optional[float], *, floor: int = 0,
                                    timeout: Optional[float] = None) -> None: ...
    async def stats_async(self) -> ZoneStats: ...
    async def ranges_async(self) -> List[Range]: ...
    async def resize_async(self, size: int, *, timeout: Optional[float] = None) -> None: ...
    async def reclaim_async(self, size: Optional[int] = None, *, with_cache: bool = False,
                            timeout: Optional[float] = None) -> int: ...
    async def destroy_async(self, *, with_tasks: bool = False,
                            timeout: Optional[float] = None) -> DestroyReport: ...
    def __enter__(self) -> Zone: ...
    def __exit__(self, exc_type: Optional[Type[BaseException]], exc: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None: ...

class Task:
    def __init__(self, handle: object) -> None: ...
    def fill(self, offset: int, size: int, value: int) -> None: ...
    def read(self, offset: int, size: int) -> bytes: ...
    def discard(self, offset: int, size: int) -> None: ...
    def cache(self, size: int) -> None: ...
    def exit(self) -> None: ...
    def __enter__(self) -> Task: ...
    def __exit__(self, exc_type: Optional[Type[BaseException]], exc: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None: ...

class VM:
    def __init__(self, handle: object, started: bool = False) -> None: ...
    @classmethod
    def start(cls, *, state_dir: _Path, kernel: Optional[_Path] = None, uri: Optional[str] = None,
              name: Optional[str] = None, emulator: Optional[_Path] = None,
              initrd: Optional[_Path] = None, cmdline: Optional[str] = None,
              disks: Iterable[_Path] = (), channel: Optional[_Path] = None,
              boot_bytes: int = 0, pool_bytes: int = 0,
              pool_backing: PoolBacking = PoolBacking.MEMFD, pool_dir: Optional[_Path] = None,
              vcpus: int = 0, timeout: Optional[float] = None, kvm: Kvm = Kvm.AUTO,
              event_loop: EventLoop = EventLoop.OWN, domain_xml: Optional[str] = None,
              connect: Optional[object] = None, wait: bool = True, pool_max_bytes: int = 0) -> VM: ...
    @classmethod
    def open_domain(cls, domain: object, *, timeout: Optional[float] = None) -> VM: ...
    @classmethod
    def serve(cls, path: _Path, *, pool_start: int, pool_bytes: int,
              backing_shift: int = 0, report_shift: int = 0) -> VM: ...
    @classmethod
    def attach(cls, *, name: str, state_dir: Optional[_Path] = None, uri: Optional[str] = None,
               connect: Optional[object] = None,
               timeout: Optional[float] = None,
               event_loop: EventLoop = EventLoop.OWN) -> VM: ...
    def detach(self) -> None: ...
    def create(self, size: int, *, cgroup: Optional[_Path] = None, spill: bool = False,
               file_zone: Optional[Zone] = None, timeout: Optional[float] = None) -> Zone: ...
    def lookup(self, id: int) -> Zone: ...
    def zones(self) -> List[Zone]: ...
    def stats(self) -> VMStats: ...
    def reclaim(self, size: Optional[int] = None, *, with_cache: bool = False,
                timeout: Optional[float] = None) -> int: ...
    def set_target(self, size: Optional[int], *, keep_cache: bool = False,
                   timeout: Optional[float] = None) -> int: ...
    def wait(self, timeout: Optional[float] = None) -> None: ...
    async def wait_async(self, timeout: Optional[float] = None) -> None: ...
    async def set_target_async(self, size: Optional[int], *, keep_cache: bool = False,
                               timeout: Optional[float] = None) -> int: ...
    async def stats_async(self) -> VMStats: ...
    async def lookup_async(self, id: int) -> Zone: ...
    async def zones_async(self) -> List[Zone]: ...
    def audit(self, *, take: bool = False, force: bool = False,
              timeout: Optional[float] = None) -> AuditReport: ...
    async def audit_async(self, *, take: bool = False, force: bool = False,
                          timeout: Optional[float] = None) -> AuditReport: ...
    def set_quota(self, *, pool: int = 0, zone: int = 0) -> None: ...
    def grow_pool(self, size: int, *, timeout: Optional[float] = None) -> None: ...
    async def grow_pool_async(self, size: int, *, timeout: Optional[float] = None) -> None: ...
    def on_event(self, function: Optional[Callable[[Event], None]]) -> None: ...
    def fileno(self) -> int: ...
    def dispatch(self, timeout: float = 0) -> int: ...
    def dispatch_in_thread(self, on: bool = True) -> None: ...
    def events(self) -> AsyncIterator[Event]: ...
    async def create_async(self, size: int, *, cgroup: Optional[_Path] = None, spill: bool = False,
                           timeout: Optional[float] = None) -> Zone: ...
    async def reclaim_async(self, size: Optional[int] = None, *, with_cache: bool = False,
                            timeout: Optional[float] = None) -> int: ...
    def start_task(self, cgroup: _Path) -> Task: ...
    def fail_next(self, call: Optional[str], error: int) -> None: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...
    def __iter__(self) -> Iterator[Zone]: ...
    def __enter__(self) -> VM: ...
    def __exit__(self, exc_type: Optional[Type[BaseException]], exc: Optional[BaseException],
                 traceback: Optional[TracebackType]) -> None: ...

def open(uri: Optional[str] = None) -> VM: ...
def probe(*, guest: bool = False, uri: Optional[str] = None, state_dir: _Path = ...,
          emulator: _Path = ..., kernel: _Path = ..., initrd: _Path = ..., boot_bytes: int = ...,
          pool_bytes: int = ..., pool_dir: _Path = ..., kvm: Kvm = ...) -> List[ProbeItem]: ...
def domain_xml(xml: str, *, state_dir: _Path, pool_bytes: int = ...,
               pool_backing: PoolBacking = ..., pool_dir: _Path = ...) -> Tuple[str, str]: ...
def set_log(function: Optional[Callable[[LogLevel, str], None]]) -> None: ...
def version() -> str: ...
