/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What zones may hold, and what the host has behind the pool although no zone holds it. */
#include "audit.h"
#include "handle.h"
#include "options.h"
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------- quota */

int czone_set_quota(czone_vm *vm, const struct czone_quota *quota)
{
	struct czone_quota q = CZONE_INIT(q);
	int r = czone_vm_check(vm);

	if (r == 0 && quota)
		r = czone_options_in(&q, sizeof(q), quota,
				     czone_size_upto(struct czone_quota, zone_bytes), "quota");
	if (r == 0 && !vm->driver->set_quota)
		r = czone_fail(-EOPNOTSUPP, "quota: it is the host that sets one");
	if (r == 0)
		r = vm->driver->set_quota(vm, q.pool_bytes, q.zone_bytes);
	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	vm->quota_pool = q.pool_bytes;
	vm->quota_zone = q.zone_bytes;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}

static void get_quota(struct czone_vm *vm, uint64_t *ret_pool, uint64_t *ret_zone)
{
	pthread_mutex_lock(&vm->lock);
	*ret_pool = vm->quota_pool;
	*ret_zone = vm->quota_zone;
	pthread_mutex_unlock(&vm->lock);
}

int czone_quota_check(struct czone_vm *vm, uint64_t size, uint64_t more, const char *what)
{
	uint64_t stat[__CZONE_STAT_MAX], pool, zone;
	int r;

	get_quota(vm, &pool, &zone);
	if (zone && size > zone)
		return czone_fail(-EDQUOT, "%s: %" PRIu64 " KiB are more than the %" PRIu64
				  " KiB that a zone may have", what, size >> 10, zone >> 10);
	if (!pool)
		return 0;
	r = vm->driver->stats(vm, CZONE_ID_VM, stat);
	if (r < 0)
		return r;
	if (stat[CZONE_STAT_USED] > pool || more > pool - stat[CZONE_STAT_USED])
		return czone_fail(-EDQUOT, "%s: zones hold %" PRIu64 " of the %" PRIu64
				  " KiB that they may hold together", what,
				  stat[CZONE_STAT_USED] >> 10, pool >> 10);
	return 0;
}

int czone_quota_check_resize(struct czone_vm *vm, uint32_t id, uint64_t size)
{
	uint64_t stat[__CZONE_STAT_MAX], pool, zone;
	int r;

	get_quota(vm, &pool, &zone);
	if (!pool && !zone)
		return 0;
	r = vm->driver->stats(vm, id, stat);
	if (r < 0)
		return r;
	if (size <= stat[CZONE_STAT_SIZE])	/* less is always fine */
		return 0;
	return czone_quota_check(vm, size, size - stat[CZONE_STAT_SIZE], "resize");
}

/* ----------------------------------------------------- what zones hold: sets */

struct set {
	struct czone_extent *extent;
	size_t n, room;
};

static int set_add(struct set *set, uint64_t start, uint64_t size)
{
	struct czone_extent *more;

	if (set->n == set->room) {
		set->room = set->room ? 2 * set->room : 64;
		more = reallocarray(set->extent, set->room, sizeof(*more));
		if (!more)
			return czone_fail(-ENOMEM, "audit: no memory for %zu ranges", set->room);
		set->extent = more;
	}
	set->extent[set->n++] = (struct czone_extent){ start, size };
	return 0;
}

static int by_start(const void *a, const void *b)
{
	const struct czone_extent *x = a, *y = b;

	return x->start < y->start ? -1 : x->start > y->start;
}

static uint64_t set_size(const struct set *set)
{
	uint64_t size = 0;

	for (size_t i = 0; i < set->n; i++)
		size += set->extent[i].size;
	return size;
}

/* Parts of the pools that are not in `held`, which gets sorted. */
static int set_rest(const struct set *pools, struct set *held, struct set *rest)
{
	int r = 0;

	if (held->n)
		qsort(held->extent, held->n, sizeof(*held->extent), by_start);
	for (size_t p = 0; p < pools->n && !r; p++) {
		uint64_t at = pools->extent[p].start, end = at + pools->extent[p].size;

		for (size_t i = 0; i < held->n && !r; i++) {
			const struct czone_extent *h = &held->extent[i];

			if (h->start >= end)
				break;
			if (h->start > at)
				r = set_add(rest, at, h->start - at);
			if (h->start + h->size > at)
				at = h->start + h->size;
		}
		if (!r && at < end)
			r = set_add(rest, at, end - at);
	}
	return r;
}

/* ------------------------------------------------------------------- audits */

struct audit {
	struct czone_vm *vm;
	uint64_t deadline;
	struct set pools;	/* without their memory map */
	struct set held;	/* at any time since the beginning */
	uint64_t zones, holding, largest;	/* of the last list */
	uint32_t largest_id;
	uint64_t over;		/* what zones have too much, each by itself */
};

static int in_time(const struct audit *a)
{
	return czone_now_ms() < a->deadline ? 0 : czone_fail(-ETIMEDOUT, "audit: the time is over");
}

static int pools_of(struct audit *a)
{
	struct czone_extent extent[16];
	int n = a->vm->driver->pools(a->vm, extent, 16);

	for (int i = 0; i < n; i++) {
		int r = set_add(&a->pools, extent[i].start, extent[i].size);

		if (r < 0)
			return r;
	}
	return n < 0 ? n : 0;
}

static int add_zone(struct audit *a, uint32_t id, uint64_t quota)
{
	struct czone_extent *extent;
	uint64_t size = 0;
	int n = czone_all_extents(a->vm, id, &extent), r = 0;

	if (n == -ENOENT)	/* it has gone meanwhile */
		return 0;
	if (n < 0)
		return n;
	for (int i = 0; i < n && !r; i++) {
		size += extent[i].size;
		r = set_add(&a->held, extent[i].start, extent[i].size);
	}
	free(extent);
	a->zones++;
	a->holding += size;
	if (size > a->largest) {
		a->largest = size;
		a->largest_id = id;
	}
	if (quota && size > quota)
		a->over += size - quota;
	/*
	 * So a guest that names more than it can have comes to an end soon. A zone that
	 * goes and one that gets its memory may both be in the list.
	 */
	if (!r && a->holding / 2 > set_size(&a->pools))
		r = czone_fail(-EPROTO, "audit: the zones are larger than the pool, says the guest");
	return r;
}

/* The zones of now: what they hold joins what was held before. */
static int list(struct audit *a)
{
	uint64_t pool, quota;
	uint32_t *ids = NULL;
	int n, room, r = 0;

	get_quota(a->vm, &pool, &quota);
	n = czone_list(a->vm, NULL, 0);
	if (n < 0)
		return n;
	room = n + 64;		/* some may be made meanwhile */
	ids = calloc(room, sizeof(*ids));
	if (!ids)
		return czone_fail(-ENOMEM, "audit: no memory for %d zones", room);
	a->zones = a->holding = a->largest = a->over = 0;
	n = czone_list(a->vm, ids, room);
	if (n > room)
		r = czone_fail(-EAGAIN, "audit: zones are made faster than they can be counted");
	for (int i = 0; i < n && !r; i++) {
		r = in_time(a);
		if (!r)
			r = add_zone(a, ids[i], quota);
	}
	free(ids);
	return n < 0 ? n : r;
}

/*
 * Look for host memory between the lists of before and after, so that a zone that
 * came or went meanwhile is in one of them.
 */
static int look(struct audit *a, struct set *ret_rest, uint64_t *ret_stray)
{
	struct set rest = { 0 };
	int r;

	a->held.n = 0;
	r = list(a);
	if (!r)
		r = set_rest(&a->pools, &a->held, &rest);
	if (!r)
		r = a->vm->driver->resident(a->vm, rest.extent, rest.n, ret_stray);
	if (!r && *ret_stray) {
		rest.n = 0;
		r = list(a);
		if (!r)
			r = set_rest(&a->pools, &a->held, &rest);
		if (!r)
			r = a->vm->driver->resident(a->vm, rest.extent, rest.n, ret_stray);
	}
	if (r < 0)
		free(rest.extent);
	else
		*ret_rest = rest;
	return r;
}

/* Somebody may make a zone between the two requests. */
#define CREATES_MAX 3

/* Until the zone is gone that has all there is, even if the time is over. */
#define DESTROY_MIN_MS 10000

static uint32_t left_ms(const struct audit *a)
{
	uint64_t now = czone_now_ms();

	return now < a->deadline ? a->deadline - now : 1;
}

/*
 * Memory can only be taken while nobody can begin to use it. The guest's kernel
 * sees to that when it belongs to a zone of ours that no cgroup has.
 */
static int take_by_zone(struct audit *a, uint64_t *taken)
{
	uint64_t stat[__CZONE_STAT_MAX], result[__CZONE_RESULT_MAX] = { 0 }, bytes = 0;
	const struct czone_driver *driver = a->vm->driver;
	struct czone_extent *extent;
	int n, r, destroyed, left = CREATES_MAX;
	uint32_t id, limit_ms;

	do {
		r = driver->stats(a->vm, CZONE_ID_VM, stat);
		if (r < 0)
			return r;
		if (stat[CZONE_STAT_USED] >= stat[CZONE_STAT_SIZE])
			return 0;
		r = driver->create(a->vm, stat[CZONE_STAT_SIZE] - stat[CZONE_STAT_USED], 0, 0,
				   left_ms(a), &id);
	} while (r == -ENOSPC && --left);
	if (r == -ENOSPC)
		return czone_fail(-EBUSY, "audit: the guest says that it has %" PRIu64
				  " KiB free, but gives no zone of them",
				  (stat[CZONE_STAT_SIZE] - stat[CZONE_STAT_USED]) >> 10);
	if (r < 0)
		return r;
	n = czone_all_extents(a->vm, id, &extent);
	r = n < 0 ? n : driver->release(a->vm, extent, n, left_ms(a), &bytes);
	*taken += bytes;
	if (n >= 0)
		free(extent);
	limit_ms = left_ms(a);
	destroyed = driver->destroy(a->vm, id, 0, limit_ms < DESTROY_MIN_MS ? DESTROY_MIN_MS : limit_ms,
				    result);
	*taken += result[CZONE_RESULT_RETURNED];
	if (destroyed < 0)
		czone_log(CZONE_LOG_ERROR, "audit: zone %u is left over: %s", id, czone_error_detail());
	return r < 0 ? r : destroyed;
}

static int take(struct audit *a, uint32_t flags, struct set *rest, uint64_t *stray, uint64_t *taken)
{
	uint64_t bytes = 0;
	int r = 0;

	if (flags & CZONE_AUDIT_TAKE) {
		r = take_by_zone(a, taken);
		/* whatever the guest did instead, is it gone? */
		free(rest->extent);
		*rest = (struct set){ 0 };
		if (!r || flags & CZONE_AUDIT_FORCE)
			r = look(a, rest, stray);
	}
	if (!r && *stray && flags & CZONE_AUDIT_FORCE) {
		r = a->vm->driver->release(a->vm, rest->extent, rest->n, left_ms(a), &bytes);
		*taken += bytes;
		if (!r)
			r = a->vm->driver->resident(a->vm, rest->extent, rest->n, stray);
	}
	return r;
}

static void tell(struct audit *a, uint64_t found, uint64_t stray, uint64_t over)
{
	uint64_t pool, zone;

	get_quota(a->vm, &pool, &zone);
	if (found) {
		czone_log(CZONE_LOG_WARNING, "audit: %" PRIu64 " KiB of the pool are in use on the host, but no zone holds them; %" PRIu64 " KiB now",
			  found >> 10, stray >> 10);
		czone_event(a->vm, CZONE_EVENT_STRAY, CZONE_ID_VM, found, 0);
	}
	if (!over)
		return;
	czone_log(CZONE_LOG_WARNING, "audit: zones hold %" PRIu64 " KiB beyond their quota", over >> 10);
	if (zone && a->largest > zone)
		czone_event(a->vm, CZONE_EVENT_OVER_QUOTA, a->largest_id, a->largest, -EDQUOT);
	else
		czone_event(a->vm, CZONE_EVENT_OVER_QUOTA, CZONE_ID_VM, a->holding, -EDQUOT);
}

static int audit(struct audit *a, uint32_t flags, struct czone_audit_report *report)
{
	uint64_t stray = 0, found, taken = 0, pool, zone;
	struct set rest = { 0 };
	int r = pools_of(a);

	if (!r)
		r = look(a, &rest, &stray);
	if (r < 0)
		return r;
	found = stray;
	if (stray && flags)
		r = take(a, flags, &rest, &stray, &taken);
	free(rest.extent);
	get_quota(a->vm, &pool, &zone);
	report->zones = a->zones;
	report->held = a->holding;
	report->stray = stray;
	report->taken = taken;
	report->over_quota = pool && a->holding > pool && a->holding - pool > a->over ?
			     a->holding - pool : a->over;
	pthread_mutex_lock(&a->vm->lock);
	a->vm->stray = stray;
	a->vm->taken += taken;
	pthread_mutex_unlock(&a->vm->lock);
	tell(a, found, stray, report->over_quota);
	if (!r && flags && stray)	/* it is touched again and again, or was where no zone could be made */
		r = czone_fail(-EBUSY, "audit: %" PRIu64 " KiB that no zone holds could not be taken from the guest",
			       stray >> 10);
	return r;
}

int czone_audit(czone_vm *vm, const struct czone_audit_opts *opts,
		struct czone_audit_report *ret_report)
{
	struct czone_audit_report report = CZONE_INIT(report);
	struct czone_audit_opts o = CZONE_INIT(o);
	struct audit a = { .vm = vm };
	int r = czone_vm_check(vm);

	if (r == 0 && opts)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_audit_opts, timeout_ms),
				     "audit options");
	if (r == 0 && o.flags & ~(CZONE_AUDIT_TAKE | CZONE_AUDIT_FORCE))
		r = czone_fail(-EINVAL, "audit: unknown flags 0x%" PRIx32,
			       o.flags & ~(CZONE_AUDIT_TAKE | CZONE_AUDIT_FORCE));
	if (r == 0 && ret_report)
		r = czone_results_check(ret_report,
					czone_size_upto(struct czone_audit_report, over_quota),
					"audit report");
	if (r == 0 && !vm->driver->pools)
		r = czone_fail(-EOPNOTSUPP, "audit: a guest does not know what its host has");
	if (r < 0)
		return r;
	a.deadline = czone_now_ms() + czone_timeout(o.timeout_ms);
	r = audit(&a, o.flags, &report);
	free(a.pools.extent);
	free(a.held.extent);
	if (ret_report && (r == 0 || r == -EBUSY))
		czone_results_out(ret_report, &report, sizeof(report));
	return r;
}
