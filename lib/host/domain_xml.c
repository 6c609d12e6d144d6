// SPDX-License-Identifier: LGPL-2.1-or-later
/* A small VM as anybody's, by a few options; domain_edit.c adds what is for zones. */
#include "domain_xml.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

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

static void disk(FILE *f, const char *image, unsigned int index)
{
	bool readonly = !strncmp(image, "ro:", 3);

	fputs("<disk type='file' device='disk'><driver name='qemu' type='raw' cache='unsafe'/>"
	      "<source file='", f);
	path(f, readonly ? image + 3 : image);
	fprintf(f, "'/><target dev='vd%c' bus='virtio'/>%s</disk>\n", 'a' + index,
		readonly ? "<readonly/>" : "");
}

char *domain_xml(const struct czone_vm_opts *o, const char *console_log, bool kvm)
{
	char *xml = NULL;
	size_t size;
	FILE *f = open_memstream(&xml, &size);

	if (!f)
		return NULL;
	fprintf(f, "<domain type='%s'>\n", kvm ? "kvm" : "qemu");
	element(f, "name", o->name);
	fprintf(f, "<memory unit='b'>%" PRIu64 "</memory>\n", o->boot_bytes);
	fprintf(f, "<vcpu>%u</vcpu>\n", o->vcpus);
	fputs("<os><type arch='x86_64' machine='q35'>hvm</type>\n", f);
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
	fprintf(f, "</features>\n<cpu mode='%s'/>\n", kvm ? "host-passthrough" : "maximum");
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
	fputs("<controller type='usb' model='none'/><memballoon model='none'/>\n</devices>\n</domain>\n", f);
	if (fclose(f))
		return NULL;
	return xml;
}
