// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * All that is QEMU's own about a VM at its start: the generic vhost-user device,
 * and the pool, which libvirt's own XML cannot describe (it has no alignment for
 * a file-backed DIMM, and without that the host uses no huge pages for it).
 */
#include "qemu.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <linux/virtio_czone.h>

/* A path in an option's value: QEMU wants a comma doubled, and runs in another directory. */
static void option_path(FILE *f, const char *text)
{
	char cwd[PATH_MAX];

	if (*text != '/' && getcwd(cwd, sizeof(cwd))) {
		option_path(f, cwd);
		fputc('/', f);
	}
	for (; *text; text++) {
		if (*text == ',')
			fputc(',', f);
		fputc(*text, f);
	}
}

static char *with_path(const char *before, const char *path, const char *after)
{
	char *text = NULL;
	size_t size;
	FILE *f = open_memstream(&text, &size);

	if (!f)
		return NULL;
	fputs(before, f);
	option_path(f, path);
	fputs(after, f);
	return fclose(f) ? NULL : text;
}

static char *pool_backend(const struct czone_vm_opts *o)
{
	char before[80], after[120], *text;

	snprintf(after, sizeof(after), ",id=%s-mem,size=%" PRIu64 ",share=on,prealloc=off",
		 QEMU_POOL_ID, o->pool_bytes);
	if (o->pool_backing == CZONE_POOL_FILE) {
		/* a directory: QEMU makes a file in it and unlinks it at once */
		snprintf(before, sizeof(before), "memory-backend-file,align=%d,mem-path=", QEMU_POOL_ALIGN);
		return with_path(before, o->pool_dir, after);
	}
	return asprintf(&text, "memory-backend-memfd%s", after) < 0 ? NULL : text;
}

int qemu_args(const struct czone_vm_opts *o, const char *socket, const char *bus, int slot,
	      char *args[QEMU_ARGS + 1])
{
	int n = 0;

	memset(args, 0, sizeof(args[0]) * (QEMU_ARGS + 1));
	args[n++] = strdup("-object");
	args[n++] = pool_backend(o);
	args[n++] = strdup("-device");
	if (asprintf(&args[n], "pc-dimm,id=%s,memdev=%s-mem,node=0", QEMU_POOL_ID, QEMU_POOL_ID) < 0)
		args[n] = NULL;
	n++;
	args[n++] = strdup("-chardev");
	args[n++] = with_path(QEMU_CHARDEV, socket, "");
	args[n++] = strdup("-device");
	if (asprintf(&args[n], "vhost-user-test-device-pci,chardev=czone,virtio-id=%d,num_vqs=%d,"
		     "vq_size=256,config_size=%zu,bus=%s,addr=%#x", VIRTIO_CZONE_ID,
		     VIRTIO_CZONE_VQ_MAX, sizeof(struct virtio_czone_config), bus, slot) < 0)
		args[n] = NULL;
	n++;
	for (int i = 0; i < n; i++)
		if (!args[i])
			goto no_memory;
	return 0;
no_memory:
	for (int i = 0; i < n; i++)
		free(args[i]);
	return -ENOMEM;
}
