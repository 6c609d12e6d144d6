// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Zones that the guest makes by itself, and which are more than it may have. Its
 * kernel tells of each; of a kernel that does not, audits find out.
 */
#include "device_internal.h"
#include "log_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A guest that tells of zones and answers nothing gets no more of our memory. */
#define REFUSALS_MAX 16
#define REFUSAL_TIMEOUT_MS 10000

struct refusal {
	struct request request;
	uint32_t zone;
	uint64_t size;
};

static void refusal_end(struct device *d, struct refusal *refusal)
{
	d->refusals--;
	free(refusal);
}

static void destroy_answered(struct device *d, struct request *r)
{
	struct refusal *refusal = (struct refusal *)r;
	int error = r->error && r->error != -ENOENT ? r->error : -EDQUOT;

	log_later(CZONE_LOG_WARNING, "VM %d: zone %u of %llu MiB, which the guest has made, is beyond the quota: %s",
		  (int)d->peer, refusal->zone, (unsigned long long)refusal->size >> 20,
		  error == -EDQUOT ? "it was destroyed" : strerror(-error));
	device_tell_error(d, CZONE_EVENT_OVER_QUOTA, refusal->zone, refusal->size, error);
	refusal_end(d, refusal);
}

static void ask(struct device *d, struct refusal *refusal, uint16_t op, uint32_t zone,
		void (*answered)(struct device *d, struct request *r))
{
	int error;

	refusal->request = (struct request){ .ask = { .op = op, .zone = zone }, .answered = answered };
	error = request_start(d, &refusal->request, REFUSAL_TIMEOUT_MS);
	if (!error)
		return;
	device_tell_error(d, CZONE_EVENT_OVER_QUOTA, refusal->zone, refusal->size, error);
	refusal_end(d, refusal);
}

static void stats_answered(struct device *d, struct request *r)
{
	struct refusal *refusal = (struct refusal *)r;

	if (!r->error && d->quota_pool && r->reply.value[CZONE_STAT_USED] > d->quota_pool)
		ask(d, refusal, VIRTIO_CZONE_OP_DESTROY, refusal->zone, destroy_answered);
	else
		refusal_end(d, refusal);
}

void quota_zone_made(struct device *d, uint32_t zone, uint64_t size)
{
	bool too_large = d->quota_zone && size > d->quota_zone;
	struct refusal *refusal;

	if (!too_large && !d->quota_pool)
		return;
	refusal = d->refusals < REFUSALS_MAX ? calloc(1, sizeof(*refusal)) : NULL;
	if (!refusal) {
		if (too_large)
			device_tell_error(d, CZONE_EVENT_OVER_QUOTA, zone, size, -EBUSY);
		return;
	}
	d->refusals++;
	refusal->zone = zone;
	refusal->size = size;
	if (too_large)
		ask(d, refusal, VIRTIO_CZONE_OP_DESTROY, zone, destroy_answered);
	else
		ask(d, refusal, VIRTIO_CZONE_OP_STATS, CZONE_ID_VM, stats_answered);
}

void device_set_quota(struct device *d, uint64_t pool_bytes, uint64_t zone_bytes)
{
	pthread_mutex_lock(&d->lock);
	d->quota_pool = pool_bytes;
	d->quota_zone = zone_bytes;
	pthread_mutex_unlock(&d->lock);
}
