/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What there is: statistics, ranges, lists. */
#include "audit.h"
#include "handle.h"
#include "options.h"
#include <errno.h>
#include <limits.h>
#include <stdlib.h>

/* A zone may grow between two looks, but not for ever. */
#define LOOKS_MAX 8

int czone_all_extents(struct czone_vm *vm, uint32_t id, struct czone_extent **ret_extents)
{
	struct czone_extent *extents = NULL, *more;
	size_t room = 16;
	int n;

	for (int look = 1; ; look++) {
		more = reallocarray(extents, room, sizeof(*extents));
		if (!more) {
			n = czone_fail(-ENOMEM, "no memory for %zu ranges of zone %u", room, id);
			break;
		}
		extents = more;
		n = vm->driver->extents(vm, id, extents, room);
		if (n < 0)
			break;
		if ((size_t)n <= room) {
			*ret_extents = extents;
			return n;
		}
		if (look == LOOKS_MAX) {
			n = czone_fail(-EAGAIN, "the ranges of zone %u become more each time", id);
			break;
		}
		room = n;
	}
	free(extents);
	return n;
}

static int host_resident(struct czone_vm *vm, uint32_t id, uint64_t *ret_bytes)
{
	struct czone_extent *extents;
	int n, r;

	if (!vm->driver->resident) {
		*ret_bytes = CZONE_UNKNOWN;
		return 0;
	}
	n = czone_all_extents(vm, id, &extents);
	if (n < 0)
		return n;
	r = vm->driver->resident(vm, extents, n, ret_bytes);
	free(extents);
	if (r == -EOPNOTSUPP) {		/* hugetlb pages, which nobody can count in parts */
		*ret_bytes = CZONE_UNKNOWN;
		return 0;
	}
	return r;
}

static void unknown(uint64_t stat[__CZONE_STAT_MAX])
{
	for (int i = 0; i < __CZONE_STAT_MAX; i++)
		stat[i] = CZONE_UNKNOWN;
}

int czone_stats(czone *zone, struct czone_zone_stats *ret_stats)
{
	uint64_t stat[__CZONE_STAT_MAX];
	struct czone_zone_stats stats;
	int r;

	r = czone_zone_check(zone);
	if (r == 0)
		r = czone_results_check(ret_stats,
					czone_size_upto(struct czone_zone_stats, cgroup_id),
					"zone statistics");
	if (r < 0)
		return r;
	unknown(stat);
	r = zone->vm->driver->stats(zone->vm, zone->id, stat);
	if (r < 0)
		return czone_handle_result(zone, r);
	stats = (struct czone_zone_stats) {
		.id = zone->id,
		.flags = stat[CZONE_STAT_FLAGS] == CZONE_UNKNOWN ? 0 : stat[CZONE_STAT_FLAGS],
		.size = stat[CZONE_STAT_SIZE],
		.used = stat[CZONE_STAT_USED],
		.free_backed = stat[CZONE_STAT_FREE_BACKED],
		.free_unbacked = stat[CZONE_STAT_FREE_UNBACKED],
		.file = stat[CZONE_STAT_FILE],
		.returned = stat[CZONE_STAT_RETURNED],
		.spilled = stat[CZONE_STAT_SPILLED],
		.cgroup_id = stat[CZONE_STAT_CGROUP],
		.kernel = stat[CZONE_STAT_KERNEL],
		.file_zone = stat[CZONE_STAT_FILE_ZONE],
		.idle_delay_ms = stat[CZONE_STAT_IDLE_DELAY_MS],
		.idle_floor = stat[CZONE_STAT_IDLE_FLOOR],
	};
	r = host_resident(zone->vm, zone->id, &stats.host_resident);
	if (r < 0)
		return czone_handle_result(zone, r);
	czone_results_out(ret_stats, &stats, sizeof(stats));
	return 0;
}

int czone_vm_stats(czone_vm *vm, struct czone_vm_stats *ret_stats)
{
	uint64_t stat[__CZONE_STAT_MAX];
	struct czone_vm_stats stats;
	int r;

	r = czone_vm_check(vm);
	if (r == 0)
		r = czone_results_check(ret_stats, czone_size_upto(struct czone_vm_stats, pid),
					"VM statistics");
	if (r < 0)
		return r;
	unknown(stat);
	r = vm->driver->stats(vm, CZONE_ID_VM, stat);
	if (r < 0)
		return r;
	stats = (struct czone_vm_stats) {
		.pool_size = stat[CZONE_STAT_SIZE],
		.pool_used = stat[CZONE_STAT_USED],
		.metadata = stat[CZONE_STAT_METADATA],
		.boot_size = stat[CZONE_STAT_BOOT_SIZE],
		.boot_free = stat[CZONE_STAT_BOOT_FREE],
		.boot_free_backed = stat[CZONE_STAT_BOOT_FREE_BACKED],
		.zones = stat[CZONE_STAT_ZONES],
		.returned = stat[CZONE_STAT_RETURNED],
		.host_pool = CZONE_UNKNOWN,
		.host_boot = CZONE_UNKNOWN,
		.host_pss = CZONE_UNKNOWN,
		.actual = CZONE_UNKNOWN,
	};
	pthread_mutex_lock(&vm->lock);
	stats.target = vm->target;
	stats.stray = vm->stray;
	stats.taken = vm->taken;
	pthread_mutex_unlock(&vm->lock);
	if (vm->driver->host_stats) {
		r = vm->driver->host_stats(vm, &stats);
		if (r < 0)
			return r;
		stats.actual = stats.host_pool + stats.host_boot;
	}
	czone_results_out(ret_stats, &stats, sizeof(stats));
	return 0;
}

int czone_ranges(czone *zone, struct czone_range *ret_ranges, size_t max)
{
	struct czone_extent *extents;
	int n;

	n = czone_zone_check(zone);
	if (n < 0)
		return n;
	if (!ret_ranges && max)
		return czone_fail(-EINVAL, "ranges: ret_ranges is NULL, but max is %zu", max);
	n = czone_all_extents(zone->vm, zone->id, &extents);
	if (n < 0)
		return czone_handle_result(zone, n);
	for (size_t i = 0; i < (size_t)n && i < max; i++)
		ret_ranges[i] = (struct czone_range) { extents[i].start, extents[i].size };
	free(extents);
	return n;
}

/* No kernel has more ids. */
#define ZONES_MAX 65536

int czone_list(czone_vm *vm, uint32_t *ret_ids, size_t max)
{
	uint32_t id = CZONE_ID_VM;
	uint64_t deadline;
	int n, r;

	r = czone_vm_check(vm);
	if (r < 0)
		return r;
	deadline = czone_now_ms() + CZONE_TIMEOUT_DEFAULT_MS;
	if (!ret_ids && max)
		return czone_fail(-EINVAL, "list: ret_ids is NULL, but max is %zu", max);
	if (vm->driver->list)
		return vm->driver->list(vm, ret_ids, max);
	for (n = 0; ; n++) {
		uint32_t last = id;

		if (n > ZONES_MAX)
			return czone_fail(-EPROTO, "list: more than %d zones: that has no end", ZONES_MAX);
		if (czone_now_ms() > deadline)
			return czone_fail(-ETIMEDOUT, "list: only %d zones in %u ms", n,
					  CZONE_TIMEOUT_DEFAULT_MS);

		r = vm->driver->next(vm, last, &id);
		if (r < 0)
			return r;
		if (!id)
			break;
		if (id <= last)
			return czone_fail(-EPROTO, "list: zone %u was said to come after zone %u",
					  id, last);
		if ((size_t)n < max)
			ret_ids[n] = id;
	}
	return n;
}

int czone_lookup(czone_vm *vm, uint32_t id, czone **ret_zone)
{
	uint64_t stat[__CZONE_STAT_MAX];
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	if (!ret_zone)
		return czone_fail(-EINVAL, "lookup: ret_zone is NULL");
	if (id == CZONE_ID_VM)
		return czone_fail(-ENOENT, "lookup: 0 is no zone's id");
	unknown(stat);
	r = vm->driver->stats(vm, id, stat);
	return r < 0 ? r : czone_handle_get(vm, id, ret_zone);
}
