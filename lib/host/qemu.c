// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * All that is QEMU's own about a VM: on its command line the generic vhost-user
 * device and the pool, which libvirt's own XML cannot describe (it has no
 * alignment for a file-backed DIMM, and without that the host uses no huge pages
 * for it); by its monitor more memory for the pool, for the same reason, and the
 * descriptors that it keeps for us.
 *
 * No memory device can be taken away again, since that is for the guest to agree
 * to, whose kernel has no part in how it got the memory.
 */
#include "qemu.h"
#include "monitor.h"
#include "../driver.h"
#include "../thread.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/virtio_czone.h>

/* ------------------------------------------------------------- command line */

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

/* ------------------------------------------------------------------ monitor */

struct monitor {
	virDomainPtr domain;
	uint64_t deadline;	/* ms */
};

/* QEMU's answer to a command, or its refusal as -EREMOTEIO with the reason as the detail. */
static int ask(const struct monitor *h, const char *command, json_t *arguments, json_t **ret_value)
{
	uint64_t now = now_ms();
	json_t *answer = NULL;
	int error = monitor_ask(h->domain, command, arguments, -1,
				now < h->deadline ? h->deadline - now : 1, &answer);

	if (error)
		return error;
	if (monitor_error(answer))
		error = czone_fail(-EREMOTEIO, "%s: QEMU says: %s", command, monitor_error(answer));
	else if (ret_value)
		*ret_value = json_incref(json_object_get(answer, "return"));
	json_decref(answer);
	return error;
}

/* Of a device that we added, or the first one: its number; -1: another's. */
static int pool_number(const json_t *device)
{
	const char *id = json_string_value(json_object_get(json_object_get(device, "data"), "id"));
	int n, end = 0;

	if (!id || sscanf(id, QEMU_POOL_NAME "%d%n", &n, &end) != 1 || id[end] || n < 0)
		return -1;
	return n;
}

static uint64_t member(const json_t *device, const char *name)
{
	return json_integer_value(json_object_get(json_object_get(device, "data"), name));
}

int qemu_first_pool(virDomainPtr domain, uint32_t timeout_ms, uint64_t *ret_start,
		       uint64_t *ret_size)
{
	struct monitor h = { .domain = domain, .deadline = now_ms() + timeout_ms };
	json_t *devices = NULL, *device;
	int error = ask(&h, "query-memory-devices", NULL, &devices);
	size_t i;

	if (error)
		return error;
	error = -EPROTO;
	json_array_foreach(devices, i, device) {
		if (pool_number(device))
			continue;
		*ret_start = member(device, "addr");
		*ret_size = member(device, "size");
		error = 0;
	}
	json_decref(devices);
	return error ? czone_fail(error, "QEMU does not list the pool among its memory devices") : 0;
}

/* Of what QEMU refuses, that there is no room is the one thing that a caller can see to. */
static int refused(int error)
{
	static const char *const no_room[] = { "slot", "space", "usable range", "No space left" };

	if (error != -EREMOTEIO)
		return error;
	for (size_t i = 0; i < sizeof(no_room) / sizeof(no_room[0]); i++)
		if (strstr(czone_error_detail(), no_room[i]))
			return -ENOSPC;
	return strstr(czone_error_detail(), "Cannot allocate memory") ? -ENOMEM : -EIO;
}

static int property(const struct monitor *h, const char *object, const char *name, char **ret_text)
{
	json_t *value = NULL;
	int error = ask(h, "qom-get", json_pack("{s:s,s:s}", "path", object, "property", name),
			&value);

	if (!error) {
		const char *text = json_string_value(value);

		*ret_text = text ? strdup(text) : NULL;
		if (!*ret_text)
			error = text ? -ENOMEM : czone_fail(-EPROTO, "QEMU's %s has no %s", object, name);
	}
	json_decref(value);
	return error;
}

/* What is behind the first pool shall be behind this one. */
static int add_backend(const struct monitor *h, const char *id, uint64_t size)
{
	static const char first[] = "/objects/" QEMU_POOL_ID "-mem";
	char *type = NULL, *path = NULL;
	json_t *arguments;
	struct stat st;
	int error = property(h, first, "type", &type);

	if (!error && !strcmp(type, "memory-backend-file"))
		error = property(h, first, "mem-path", &path);
	/* where there is none QEMU makes a file of that name, and leaves it there */
	if (!error && path && stat(path, &st))
		error = czone_fail(-errno, "pool_dir %s: %s", path, strerror(errno));
	else if (!error && path && !S_ISDIR(st.st_mode))
		error = czone_fail(-ENOTDIR, "pool_dir %s is not a directory any more", path);
	if (!error) {
		arguments = json_pack("{s:s,s:s,s:I,s:b,s:b}", "qom-type", type, "id", id, "size",
				      (json_int_t)size, "share", 1, "prealloc", 0);
		if (path) {
			json_object_set_new(arguments, "mem-path", json_string(path));
			json_object_set_new(arguments, "align", json_integer(QEMU_POOL_ALIGN));
		}
		error = refused(ask(h, "object-add", arguments, NULL));
	}
	free(type);
	free(path);
	return error;
}

static void remove_backend(const struct monitor *h, const char *id)
{
	char *detail = strdup(czone_error_detail());

	ask(h, "object-del", json_pack("{s:s}", "id", id), NULL);
	czone_fail(0, "%s", detail ? detail : "");
	free(detail);
}

static int add_device(const struct monitor *h, int number, uint64_t start, uint64_t size)
{
	char id[40], memory[48];
	int error;

	snprintf(id, sizeof(id), QEMU_POOL_NAME "%d", number);
	snprintf(memory, sizeof(memory), "%s-mem", id);
	/* a process that died here before may have left one without a device */
	remove_backend(h, memory);
	error = add_backend(h, memory, size);
	if (error)
		return error;
	error = refused(ask(h, "device_add",
			    json_pack("{s:s,s:s,s:s,s:i,s:I}", "driver", "pc-dimm", "id", id, "memdev",
				      memory, "node", 0, "addr", (json_int_t)start), NULL));
	if (error)
		remove_backend(h, memory);
	return error;
}

int qemu_add_pool(virDomainPtr domain, struct device *device, uint64_t size, uint32_t timeout_ms,
		 uint64_t *ret_start)
{
	struct monitor h = { .domain = domain, .deadline = now_ms() + timeout_ms };
	json_t *devices = NULL, *memory;
	uint64_t end = 0;
	int next = 1, error = ask(&h, "query-memory-devices", NULL, &devices);
	size_t i;

	if (error)
		return error == -EREMOTEIO ? -EIO : error;
	json_array_foreach(devices, i, memory) {
		uint64_t start = member(memory, "addr"), bytes = member(memory, "size");
		int number = pool_number(memory);

		if (number >= next)
			next = number + 1;
		if (start + bytes > end)
			end = start + bytes;
		if (number > 0 && bytes == size && device_pool_state(device, start) <= 0) {
			*ret_start = start;
			json_decref(devices);
			return 0;
		}
	}
	json_decref(devices);
	if (!end)
		return czone_fail(-EPROTO, "QEMU does not list the pool among its memory devices");
	/* behind all the others: where a guest can take it, whatever sizes these have */
	*ret_start = (end + CZONE_POOL_STEP - 1) / CZONE_POOL_STEP * CZONE_POOL_STEP;
	return add_device(&h, next, *ret_start, size);
}

int qemu_give_fd(virDomainPtr domain, const char *name, int fd, uint32_t timeout_ms)
{
	json_t *answer = NULL;
	int error = monitor_ask(domain, "getfd", json_pack("{s:s}", "fdname", name), fd,
				timeout_ms, &answer);

	if (!error && monitor_error(answer))
		error = czone_fail(-EIO, "QEMU does not take a descriptor: %s",
				   monitor_error(answer));
	json_decref(answer);
	return error;
}
