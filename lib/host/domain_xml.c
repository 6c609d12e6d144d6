// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * All that is QEMU's own about a VM stands here: the generic vhost-user device,
 * and the pool, which libvirt's own XML cannot describe (it has no alignment for
 * a file-backed DIMM, and without that the host uses no huge pages for it).
 */
#include "domain_xml.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_czone.h>

/* Room for pools that are added while the VM runs. */
#define MEMORY_SLOTS 16
#define HOTPLUG_BYTES ((uint64_t)256 << 30)

static void escaped(FILE *f, const char *text)
{
	for (; *text; text++) {
		switch (*text) {
		case '<': fputs("&lt;", f); break;
		case '>': fputs("&gt;", f); break;
		case '&': fputs("&amp;", f); break;
		case '\'': fputs("&apos;", f); break;
		case '"': fputs("&quot;", f); break;
		default: fputc(*text, f);
		}
	}
}

/* QEMU runs in another directory than we do. */
static void path(FILE *f, const char *text)
{
	char cwd[PATH_MAX];

	if (*text != '/' && getcwd(cwd, sizeof(cwd))) {
		escaped(f, cwd);
		fputc('/', f);
	}
	escaped(f, text);
}

static void path_element(FILE *f, const char *name, const char *text)
{
	fprintf(f, "<%s>", name);
	path(f, text);
	fprintf(f, "</%s>\n", name);
}

static void element(FILE *f, const char *name, const char *text)
{
	fprintf(f, "<%s>", name);
	escaped(f, text);
	fprintf(f, "</%s>\n", name);
}

/* A path in an option's value, where QEMU wants a comma doubled. */
static void option_path(FILE *f, const char *text)
{
	char cwd[PATH_MAX];

	if (*text != '/' && getcwd(cwd, sizeof(cwd))) {
		option_path(f, cwd);
		fputc('/', f);
	}
	for (; *text; text++) {
		char c[2] = { *text };

		if (*text == ',')
			fputc(',', f);
		escaped(f, c);
	}
}

static void disk(FILE *f, const char *image, unsigned int index)
{
	bool readonly = !strncmp(image, "ro:", 3);

	fputs("<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/>"
	      "<source file='", f);
	path(f, readonly ? image + 3 : image);
	fprintf(f, "'/><target dev='vd%c' bus='virtio'/>%s</disk>\n", 'a' + index,
		readonly ? "<readonly/>" : "");
}

static void pool(FILE *f, const struct czone_vm_opts *o)
{
	fputs("<qemu:arg value='-object'/><qemu:arg value='", f);
	if (o->pool_backing == CZONE_POOL_FILE) {
		/* a directory: QEMU makes a file in it and unlinks it at once */
		fputs("memory-backend-file,align=2M,mem-path=", f);
		option_path(f, o->pool_dir);
	} else {
		fputs("memory-backend-memfd", f);
	}
	fprintf(f, ",id=%s,size=%" PRIu64 ",share=on,prealloc=off'/>\n", DOMAIN_POOL_ID "-mem",
		o->pool_bytes);
	fprintf(f, "<qemu:arg value='-device'/><qemu:arg value='pc-dimm,id=%s,memdev=%s,node=0'/>\n",
		DOMAIN_POOL_ID, DOMAIN_POOL_ID "-mem");
}

char *domain_xml(const struct czone_vm_opts *o, const char *device_socket, const char *console_log,
		 bool kvm)
{
	char *xml = NULL;
	size_t size;
	FILE *f = open_memstream(&xml, &size);

	if (!f)
		return NULL;
	fprintf(f, "<domain type='%s' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n",
		kvm ? "kvm" : "qemu");
	element(f, "name", o->name);
	fprintf(f, "<maxMemory slots='%d' unit='b'>%" PRIu64 "</maxMemory>\n", MEMORY_SLOTS,
		o->boot_bytes + o->pool_bytes + HOTPLUG_BYTES);
	fprintf(f, "<memory unit='b'>%" PRIu64 "</memory>\n", o->boot_bytes);
	fprintf(f, "<vcpu>%u</vcpu>\n", o->vcpus);
	fputs("<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>\n"
	      "<os><type arch='x86_64' machine='q35'>hvm</type>\n", f);
	path_element(f, "kernel", o->kernel);
	if (o->initrd)
		path_element(f, "initrd", o->initrd);
	/* The pool reaches above 4 GiB, for which Linux would set 64 MiB aside for bouncing. */
	fputs("<cmdline>console=ttyS0 panic=-1 swiotlb=noforce", f);
	if (o->cmdline) {
		fputc(' ', f);
		escaped(f, o->cmdline);
	}
	fputs("</cmdline></os>\n<features><acpi/>", f);
	/* QEMU would keep up to 1 GiB of translated code; 32 MiB is full, and steady, after boot. */
	if (!kvm)
		fputs("<tcg><tb-cache unit='MiB'>32</tb-cache></tcg>", f);
	fprintf(f, "</features>\n<cpu mode='%s'><numa><cell id='0' cpus='0-%u' memory='%" PRIu64
		"' unit='b' memAccess='shared'/></numa></cpu>\n",
		kvm ? "host-passthrough" : "maximum", o->vcpus - 1, o->boot_bytes);
	fputs("<on_poweroff>destroy</on_poweroff><on_reboot>destroy</on_reboot><on_crash>destroy</on_crash>\n"
	      "<seclabel type='none'/>\n<devices>\n", f);
	path_element(f, "emulator", o->emulator);
	for (unsigned int i = 0; o->disks && o->disks[i]; i++)
		disk(f, o->disks[i], i);
	fputs("<serial type='file'><source path='", f);
	path(f, console_log);
	fputs("'/><target type='isa-serial' port='0'/></serial>\n", f);
	if (o->channel) {
		fputs("<channel type='unix'><source mode='bind' path='", f);
		path(f, o->channel);
		fputs("'/><target type='virtio' name='czone.exec'/></channel>\n", f);
	}
	fputs("<controller type='usb' model='none'/><memballoon model='none'/>\n</devices>\n"
	      "<qemu:commandline>\n", f);
	pool(f, o);
	fputs("<qemu:arg value='-chardev'/><qemu:arg value='socket,id=czone,path=", f);
	option_path(f, device_socket);
	fprintf(f, "'/>\n<qemu:arg value='-device'/><qemu:arg value='vhost-user-test-device-pci,"
		"chardev=czone,virtio-id=%d,num_vqs=%d,vq_size=256,config_size=%zu,"
		"bus=pcie.0,addr=0x1d'/>\n", VIRTIO_CZONE_ID, VIRTIO_CZONE_VQ_MAX,
		sizeof(struct virtio_czone_config));
	fputs("</qemu:commandline>\n</domain>\n", f);
	if (fclose(f))
		return NULL;
	return xml;
}
