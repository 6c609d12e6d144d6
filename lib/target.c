/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Bringing the host memory of a VM down, and waiting for its guest. */
#include "handle.h"
#include "options.h"
#include "thread.h"
#include <errno.h>
#include <inttypes.h>

/*
 * A round of less than this, in which the VM did not get smaller, was the last:
 * what else there is changes hands faster than it comes back.
 */
#define PROGRESS ((uint64_t)1 << 20)

static int count(struct czone_vm *vm, uint64_t *ret_actual)
{
	struct czone_vm_stats stats = { .host_pool = 0 };
	int r = vm->driver->host_stats(vm, &stats);

	if (r == 0)
		*ret_actual = stats.host_pool + stats.host_boot;
	return r;
}

/*
 * Nothing is polled: each round asks the guest for as much as is missing, and
 * ends when that has come. Free memory first; once that brings no more, cache.
 */
static int approach(struct czone_vm *vm, uint64_t target, bool cache, uint64_t deadline,
		    uint64_t *actual)
{
	uint32_t flags = 0;

	while (*actual > target) {
		uint64_t result[__CZONE_RESULT_MAX] = { 0 }, before = *actual, now = now_ms();
		int r;

		if (now >= deadline)
			return czone_fail(-ETIMEDOUT, "target: %" PRIu64 " MiB of %" PRIu64
					  " are left when the time is over", *actual >> 20, target >> 20);
		r = vm->driver->reclaim(vm, CZONE_ID_VM, *actual - target, flags, deadline - now, result);
		if (r < 0)
			return r;
		r = count(vm, actual);
		if (r < 0)
			return r;
		if (*actual + PROGRESS <= before || *actual <= target)
			continue;
		if (flags || !cache)
			return czone_fail(-EBUSY, "target: %" PRIu64 " KiB are in use, more than %" PRIu64,
					  *actual >> 10, target >> 10);
		flags = CZONE_RECLAIM_WITH_CACHE;
	}
	return 0;
}

int czone_set_target(czone_vm *vm, uint64_t bytes, const struct czone_target_opts *opts,
		     uint64_t *ret_actual)
{
	struct czone_target_opts o = CZONE_INIT(o);
	uint64_t actual = CZONE_UNKNOWN;
	int r = czone_vm_check(vm);

	if (r == 0 && opts)
		r = czone_options_in(&o, sizeof(o), opts,
				     czone_size_upto(struct czone_target_opts, flags),
				     "target options");
	if (r == 0 && o.flags & ~CZONE_TARGET_KEEP_CACHE)
		r = czone_fail(-EINVAL, "target: unknown flags 0x%" PRIx32,
			       o.flags & ~CZONE_TARGET_KEEP_CACHE);
	if (r == 0 && !vm->driver->host_stats)
		r = czone_fail(-EOPNOTSUPP, "target: a guest does not know what its host spends");
	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	vm->target = bytes;
	pthread_mutex_unlock(&vm->lock);
	r = count(vm, &actual);
	if (r == 0)
		r = approach(vm, bytes, !(o.flags & CZONE_TARGET_KEEP_CACHE),
			     now_ms() + czone_timeout(o.timeout_ms), &actual);
	if (bytes != CZONE_UNKNOWN)
		czone_event(vm, r == 0 ? CZONE_EVENT_TARGET_MET : CZONE_EVENT_TARGET_MISSED,
			    CZONE_ID_VM, actual, r);
	if (ret_actual && (r == 0 || r == -EBUSY || r == -ETIMEDOUT))
		*ret_actual = actual;
	return r;
}

int czone_vm_wait(czone_vm *vm, uint32_t timeout_ms)
{
	int r = czone_vm_check(vm);

	if (r < 0 || !vm->driver->wait)
		return r;
	return vm->driver->wait(vm, czone_timeout(timeout_ms));
}
