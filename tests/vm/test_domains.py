# SPDX-License-Identifier: LGPL-2.1-or-later
"""The caller's own domain, at a libvirt daemon, by the caller's own connection."""
import asyncio
import errno
import os
import pathlib
import tempfile

import libvirt
import pytest

import czone
from daemon import Daemon
from microvm import MIB, SPLAT, Container, Guest

ORDINARY = """<domain type='qemu'>
  <name>ordinary</name>
  <memory unit='MiB'>256</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel><initrd>{image}/initrd.gz</initrd>
    <cmdline>console=ttyS0 panic=-1 swiotlb=noforce loglevel=7</cmdline></os>
  <features><acpi/></features>
  <cpu mode='maximum'/>
  <on_reboot>destroy</on_reboot>
  <devices>
    <emulator>{qemu}</emulator>
    <disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/>
      <source file='{image}/rootfs.img'/><target dev='vda' bus='virtio'/><readonly/></disk>
    <serial type='file'><source path='{directory}/console'/></serial>
    <channel type='unix'><source mode='bind' path='{directory}/exec'/>
      <target type='virtio' name='czone.exec'/></channel>
    <memballoon model='none'/>
  </devices>
</domain>"""


class Case:
    """The VM, the daemon, and whoever serves it at the moment."""

    def __init__(self, directory):
        self.directory = directory
        self.xml = ORDINARY.format(
            kernel=os.environ["CZONE_KERNEL"], image=os.environ["CZONE_MICROVM"],
            qemu=os.environ["CZONE_QEMU"], directory=directory)
        self.daemon = Daemon()
        self.connection = libvirt.open(self.daemon.uri)
        self.vm = czone.VM.start(state_dir=directory, domain_xml=self.xml, pool_bytes=1 << 30,
                                 connect=self.connection, wait=False)
        events = []
        self.vm.on_event(events.append)
        with pytest.raises(czone.Error) as caught:      # its guest is not there yet
            self.vm.create(4 * MIB)
        assert caught.value.errno == errno.ENOTCONN
        asyncio.run(self.vm.wait_async(120))
        self.vm.dispatch()
        assert [e.kind for e in events] == [czone.EventKind.GUEST_READY]
        self.guest = Guest(pathlib.Path(directory) / "exec")
        self.container = Container(self, "c", 64 * MIB)
        self.container.workload(anon=32, free=16, seed=1)
        self.container.wait("ready")
        self.zone = self.container.zone.id

    @property
    def domain(self):
        return self.connection.lookupByName("ordinary")

    def well(self):
        """It is served, its zone is there, and memory comes back."""
        assert self.container.verify() > 0
        zone = self.vm.lookup(self.zone)
        before = self.vm.stats()
        assert before.host_pool > 0 and zone.stats().host_resident > 0
        other = self.vm.create(8 * MIB)
        other.destroy()
        zone.reclaim()

    def end(self):
        self.vm.close()
        self.connection.close()
        self.daemon.stop()


@pytest.fixture(scope="module")
def case():
    libvirt.registerErrorHandler(lambda *_: None, None)
    with tempfile.TemporaryDirectory(prefix="czone-d.") as directory:
        c = Case(directory)
        try:
            yield c
            log = (pathlib.Path(directory) / "console").read_text(errors="replace")
            assert not [line for line in log.splitlines() if SPLAT.search(line)], log[-3000:]
        finally:
            c.end()


def test_what_was_added_stands_in_the_domain(case):
    xml, added = czone.domain_xml(case.xml, state_dir=case.directory, pool_bytes=1 << 30)
    assert "vhost-user-test-device-pci" in xml and "memfd" in added
    live = case.domain.XMLDesc()
    assert f"path={case.directory}/ordinary.czone" in live and "czone-pool0" in live
    assert not case.domain.isPersistent()
    case.well()


def test_its_memory_comes_back(case):
    freed = case.container.idle()
    assert case.vm.lookup(case.zone).reclaim() >= 0.99 * freed
    case.well()


@pytest.mark.parametrize("what", ["save", "managed save", "snapshot", "migration", "dump"])
def test_what_the_device_makes_impossible(case, what):
    """libvirt or QEMU refuses, says why, and the VM goes on."""
    domain, path = case.domain, case.directory + "/saved"
    calls = {
        "save": lambda: domain.save(path),
        "managed save": lambda: domain.managedSave(),
        "snapshot": lambda: domain.snapshotCreateXML(
            f"<domainsnapshot><memory snapshot='external' file='{path}'/></domainsnapshot>",
            libvirt.VIR_DOMAIN_SNAPSHOT_CREATE_NO_METADATA),
        "migration": lambda: domain.migrateToURI3(
            case.daemon.uri, {libvirt.VIR_MIGRATE_PARAM_DEST_NAME: "other"},
            libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_LIVE),
        "dump": lambda: domain.coreDump(path, libvirt.VIR_DUMP_LIVE),
    }
    with pytest.raises(libvirt.libvirtError) as caught:
        calls[what]()
    print(what, ":", caught.value)
    assert domain.isActive() == 1 and domain.state()[0] == libvirt.VIR_DOMAIN_RUNNING
    assert not os.path.exists(path) or os.path.getsize(path) < 1 << 20
    case.well()


def test_one_that_lives_is_left_alone(case):
    with pytest.raises(czone.Error) as caught:
        czone.VM.open_domain(case.domain, timeout=5)
    assert caught.value.errno == errno.EBUSY, caught.value
    case.well()


def test_detach_and_open_by_the_caller_s_domain(case):
    case.vm.detach()
    case.vm = czone.VM.open_domain(case.domain, timeout=60)
    case.well()
    # it is the caller's: closing it does not stop it
    case.vm.close()
    assert case.domain.isActive() == 1
    case.vm = czone.VM.attach(uri=case.daemon.uri, name="ordinary", timeout=60)
    case.well()


def test_no_such_domain(case):
    with pytest.raises(czone.Error, match="nobody") as caught:
        czone.VM.attach(uri=case.daemon.uri, name="nobody", timeout=5)
    assert caught.value.errno == errno.ENOENT
    with pytest.raises(TypeError):
        czone.VM.open_domain("ordinary")
    with pytest.raises(TypeError):
        czone.VM.start(state_dir=case.directory, domain_xml=case.xml, connect=case.daemon.uri)


def test_the_last_handle_stops_it(case):
    """Last: of one that was attached to, as of one that was started."""
    case.vm.close()
    with pytest.raises(libvirt.libvirtError):
        case.domain.isActive()
