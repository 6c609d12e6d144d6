// SPDX-License-Identifier: LGPL-2.1-or-later
/* The operations of the library on a VM: requests to its guest, and the host's own count. */
#include "host.h"
#include "memory.h"
#include "thread.h"
#include "../driver.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXTENTS_PER_REPLY (VIRTIO_CZONE_VALUES_MAX / 2)

/* No zone has more: a guest that goes on for ever is a broken one. */
#define EXTENTS_MAX (1u << 16)

static struct device *device_of(struct czone_vm *vm)
{
	return ((struct host_vm *)vm->priv)->device;
}

static int ask(struct czone_vm *vm, const struct device_request *request, uint32_t timeout_ms,
	       struct device_reply *reply)
{
	memset(reply, 0, sizeof(*reply));
	return device_ask(device_of(vm), request, timeout_ms, reply);
}

static void host_close(struct czone_vm *vm)
{
	host_vm_close(vm->priv);
}

static int host_stop(struct czone_vm *vm)
{
	return host_vm_stop(vm->priv);
}

static int host_detach(struct czone_vm *vm)
{
	return host_vm_detach(vm->priv);
}

static int host_wait(struct czone_vm *vm, uint32_t timeout_ms)
{
	return device_wait_ready(device_of(vm), timeout_ms);
}

static void host_wake(struct czone_vm *vm)
{
	device_wake(device_of(vm));
}

static int host_grow(struct czone_vm *vm, uint64_t bytes, uint32_t timeout_ms)
{
	return host_vm_grow(vm->priv, bytes, timeout_ms);
}

static int host_create(struct czone_vm *vm, uint64_t size, uint32_t flags, uint32_t file_zone,
		       uint32_t timeout_ms, uint32_t *ret_id)
{
	struct device_request request = {
		.op = VIRTIO_CZONE_OP_CREATE, .arg = { size, flags, file_zone },
	};
	struct device_reply reply;
	int error = ask(vm, &request, timeout_ms, &reply);

	if (error)
		return error;
	if (reply.zone == CZONE_ID_VM)
		return czone_fail(-EPROTO, "create: the guest tells no id");
	*ret_id = reply.zone;
	return 0;
}

static void take_results(const struct device_reply *reply, uint64_t result[__CZONE_RESULT_MAX])
{
	for (uint32_t i = 0; i < __CZONE_RESULT_MAX; i++)
		result[i] = i < reply->count ? reply->value[i] : 0;
}

static int host_attach(struct czone_vm *vm, uint32_t id, const char *path, uint32_t flags,
		       uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	struct device_request request = {
		.op = VIRTIO_CZONE_OP_ATTACH, .zone = id, .path = path, .arg = { flags },
	};
	struct device_reply reply;
	int error = ask(vm, &request, timeout_ms, &reply);

	take_results(&reply, result);
	return error;
}

static int host_resize(struct czone_vm *vm, uint32_t id, uint64_t size, uint32_t timeout_ms)
{
	struct device_request request = {
		.op = VIRTIO_CZONE_OP_RESIZE, .zone = id, .arg = { size },
	};
	struct device_reply reply;

	return ask(vm, &request, timeout_ms, &reply);
}

static int give_back(struct czone_vm *vm, const struct device_request *request,
		     uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	uint64_t before = device_returned(device_of(vm)), back;
	struct device_reply reply;
	int error = ask(vm, request, timeout_ms, &reply);

	take_results(&reply, result);
	/* the guest only passes on what the device told it; it cannot have been more */
	back = device_returned(device_of(vm)) - before;
	if (result[CZONE_RESULT_RETURNED] > back)
		result[CZONE_RESULT_RETURNED] = back;
	return error;
}

static int host_destroy(struct czone_vm *vm, uint32_t id, uint32_t flags, uint32_t timeout_ms,
			uint64_t result[__CZONE_RESULT_MAX])
{
	struct device_request request = {
		.op = VIRTIO_CZONE_OP_DESTROY, .zone = id, .arg = { flags },
	};

	return give_back(vm, &request, timeout_ms, result);
}

static int host_reclaim(struct czone_vm *vm, uint32_t id, uint64_t bytes, uint32_t flags,
			uint32_t timeout_ms, uint64_t result[__CZONE_RESULT_MAX])
{
	struct device_request request = {
		.op = VIRTIO_CZONE_OP_RECLAIM, .zone = id, .arg = { bytes, flags },
	};

	return give_back(vm, &request, timeout_ms, result);
}

static int host_set_idle(struct czone_vm *vm, uint32_t id, uint32_t delay_ms, uint64_t floor,
			 uint32_t timeout_ms)
{
	struct device_request request = {
		.op = VIRTIO_CZONE_OP_SET_IDLE, .zone = id, .arg = { delay_ms, floor },
	};
	struct device_reply reply;

	return ask(vm, &request, timeout_ms, &reply);
}

static int host_stats(struct czone_vm *vm, uint32_t id, uint64_t stat[__CZONE_STAT_MAX])
{
	struct device_request request = { .op = VIRTIO_CZONE_OP_STATS, .zone = id };
	struct device_reply reply;
	int error = ask(vm, &request, CZONE_TIMEOUT_DEFAULT_MS, &reply);

	if (error)
		return error;
	for (uint32_t i = 0; i < __CZONE_STAT_MAX; i++)
		stat[i] = i < reply.count ? reply.value[i] : CZONE_UNKNOWN;
	return 0;
}

static int host_next(struct czone_vm *vm, uint32_t after, uint32_t *ret_id)
{
	struct device_request request = { .op = VIRTIO_CZONE_OP_NEXT, .zone = after };
	struct device_reply reply;
	int error = ask(vm, &request, CZONE_TIMEOUT_DEFAULT_MS, &reply);

	if (error == -ENOENT) {
		*ret_id = 0;
		return 0;
	}
	if (error)
		return error;
	if (reply.zone <= after)
		return czone_fail(-EPROTO, "next: the guest says %u comes after %u", reply.zone,
				  after);
	*ret_id = reply.zone;
	return 0;
}

/* Those of one reply; how many, or -EPROTO. */
static int take_extents(struct czone_vm *vm, uint32_t id, const struct device_reply *reply,
			struct device_range range[EXTENTS_PER_REPLY])
{
	uint32_t n = reply->count / 2;

	for (uint32_t i = 0; i < n; i++)
		range[i] = (struct device_range){ reply->value[2 * i], reply->value[2 * i + 1] };
	if (device_plausible(device_of(vm), range, n))
		return n;
	return czone_fail(-EPROTO, "extents of zone %u: the guest names memory that no zone can have",
			  id);
}

static int host_extents(struct czone_vm *vm, uint32_t id, struct czone_extent *extent, size_t max)
{
	struct device_request request = { .op = VIRTIO_CZONE_OP_EXTENTS, .zone = id };
	uint64_t deadline = now_ms() + CZONE_TIMEOUT_DEFAULT_MS, now;
	struct device_range range[EXTENTS_PER_REPLY];
	struct device_reply reply;
	size_t n = 0;
	int got, error;

	do {
		now = now_ms();
		if (now >= deadline)
			return czone_fail(-ETIMEDOUT, "extents of zone %u: only %zu in %u ms", id, n,
					  CZONE_TIMEOUT_DEFAULT_MS);
		request.arg[0] = n;
		error = ask(vm, &request, deadline - now, &reply);
		if (error)
			return error;
		got = take_extents(vm, id, &reply, range);
		if (got < 0)
			return got;
		for (int i = 0; i < got; i++, n++)
			if (n < max)
				extent[n] = (struct czone_extent){ range[i].start, range[i].size };
		if (n > EXTENTS_MAX)
			return czone_fail(-EPROTO, "extents of zone %u have no end", id);
	} while (got == EXTENTS_PER_REPLY);
	return n;
}

static int host_resident(struct czone_vm *vm, const struct czone_extent *extent, size_t n,
			 uint64_t *ret_bytes)
{
	struct device_range *range = calloc(n ? n : 1, sizeof(*range));
	int error;

	if (!range)
		return czone_fail(-ENOMEM, "no memory for %zu ranges", n);
	for (size_t i = 0; i < n; i++)
		range[i] = (struct device_range){ extent[i].start, extent[i].size };
	/* each was, but together they may be more than there is */
	if (device_plausible(device_of(vm), range, n))
		error = device_resident(device_of(vm), range, n, ret_bytes);
	else
		error = czone_fail(-EPROTO, "the guest names more memory of a zone than there is");
	free(range);
	return error;
}

static int host_pools(struct czone_vm *vm, struct czone_extent *extent, size_t max)
{
	struct device_range range[MEMORY_POOLS_MAX];
	size_t n = device_pools(device_of(vm), range);

	for (size_t i = 0; i < n && i < max; i++)
		extent[i] = (struct czone_extent){ range[i].start, range[i].size };
	return n < max ? n : max;
}

static int host_release(struct czone_vm *vm, const struct czone_extent *extent, size_t n,
			uint32_t timeout_ms, uint64_t *ret_bytes)
{
	struct device_range *range = calloc(n ? n : 1, sizeof(*range));
	int error;

	if (!range)
		return czone_fail(-ENOMEM, "no memory for %zu ranges", n);
	for (size_t i = 0; i < n; i++)
		range[i] = (struct device_range){ extent[i].start, extent[i].size };
	if (device_plausible(device_of(vm), range, n))
		error = device_release(device_of(vm), range, n, timeout_ms, ret_bytes);
	else
		error = czone_fail(-EPROTO, "the guest names more memory of a zone than there is");
	free(range);
	return error;
}

static int host_set_quota(struct czone_vm *vm, uint64_t pool_bytes, uint64_t zone_bytes)
{
	device_set_quota(device_of(vm), pool_bytes, zone_bytes);
	return 0;
}

/* Proportional set size of a process; CZONE_UNKNOWN where we may not look. */
static uint64_t pss(pid_t pid)
{
	unsigned long long kib;
	uint64_t bytes = CZONE_UNKNOWN;
	char path[40], line[128];
	FILE *f;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
	f = fopen(path, "re");
	if (!f)
		return bytes;
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "Pss: %llu kB", &kib) == 1)
			bytes = kib << 10;
	fclose(f);
	return bytes;
}

static int host_host_stats(struct czone_vm *vm, struct czone_vm_stats *stats)
{
	struct device *device = device_of(vm);
	int error = device_allocated(device, &stats->host_pool, &stats->host_boot);

	if (error)
		return error;
	stats->returned = device_returned(device);
	stats->pid = device_peer(device);
	stats->host_pss = pss(stats->pid);
	return 0;
}

const struct czone_driver czone_host_driver = {
	.name = "host",
	.close = host_close,
	.stop = host_stop,
	.detach = host_detach,
	.grow = host_grow,
	.create = host_create,
	.attach = host_attach,
	.resize = host_resize,
	.destroy = host_destroy,
	.reclaim = host_reclaim,
	.set_idle = host_set_idle,
	.stats = host_stats,
	.next = host_next,
	.extents = host_extents,
	.resident = host_resident,
	.pools = host_pools,
	.release = host_release,
	.set_quota = host_set_quota,
	.host_stats = host_host_stats,
	.wait = host_wait,
	.wake = host_wake,
};
