// SPDX-License-Identifier: LGPL-2.1-or-later
/* Memory that the host takes from the guest without a report of it. */
#include "device_internal.h"
#include "../driver.h"
#include "../thread.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* One job, between which the time is looked at. */
#define PART_BYTES ((uint64_t)64 << 20)

/* No zone's: never merged with reports. */
#define RELEASE_ZONE (UINT32_MAX - 1)

/* 1/64 of a pool holds its memory map, at its beginning. */
#define MEMORY_MAP_SHIFT 6

struct release {
	struct punch_job job;
	struct device *device;
	uint64_t id;
	struct device_range range;
};

size_t device_pools(struct device *d, struct device_range ret_range[])
{
	size_t n = 0;

	pthread_mutex_lock(&d->lock);
	for (unsigned int i = 0; i < d->n_pools; i++) {
		const struct pool *p = &d->pool[i];
		uint64_t map = (p->size >> MEMORY_MAP_SHIFT) + CZONE_BLOCK_SIZE - 1;

		map -= map % CZONE_BLOCK_SIZE;
		if (map < p->size)
			ret_range[n++] = (struct device_range){ p->start + map, p->size - map };
	}
	pthread_mutex_unlock(&d->lock);
	return n;
}

static void release_done(struct punch_job *job)
{
	struct release *r = (struct release *)job;
	struct device *d = r->device;

	pthread_mutex_lock(&d->lock);
	if (d->release.id == r->id) {	/* who waits is still there */
		d->release.done = true;
		d->release.bytes = job->bytes;
		d->release.error = job->error;
		pthread_cond_broadcast(&d->changed);
	}
	pthread_mutex_unlock(&d->lock);
	free(r);
}

/* A guest that comes up anew drops the job, and then nothing of it may be punched. */
static int alive(const struct device *d, unsigned int session)
{
	if (d->gone || d->closing)
		return -ESHUTDOWN;
	return d->up && d->session == session ? 0 : -ENOTCONN;
}

static int release_part(struct device *d, struct device_range range, unsigned int session,
			uint64_t *bytes)
{
	struct release *r = calloc(1, sizeof(*r));
	int error;

	if (!r)
		return -ENOMEM;
	r->device = d;
	r->id = ++d->release.id;
	r->range = range;
	r->job.zone = RELEASE_ZONE;
	r->job.done = release_done;
	r->job.range = &r->range;
	r->job.n = 1;
	d->release.done = false;
	punch_submit(&d->punch, &r->job);
	while (!d->release.done && !(error = alive(d, session)))
		pthread_cond_wait(&d->changed, &d->lock);
	if (d->release.done) {
		*bytes += d->release.bytes;
		return d->release.error;
	}
	d->release.id++;
	return error;
}

int device_release(struct device *d, const struct device_range *range, size_t n,
		   uint32_t timeout_ms, uint64_t *ret_bytes)
{
	uint64_t deadline = now_ms() + timeout_ms, bytes = 0;
	unsigned int session;
	int error;

	device_enter(d);
	session = d->session;
	error = d->release.busy ? -EBUSY : alive(d, session);
	if (error) {
		device_leave(d);
		return czone_fail(error, "memory of the VM is not taken: %s", strerror(-error));
	}
	d->release.busy = true;
	for (size_t i = 0; i < n && !error; i++) {
		struct device_range part = { .start = range[i].start };

		while (part.start < range[i].start + range[i].size && !error) {
			part.size = range[i].start + range[i].size - part.start;
			if (part.size > PART_BYTES)
				part.size = PART_BYTES;
			error = now_ms() >= deadline ? -ETIMEDOUT :
				release_part(d, part, session, &bytes);
			part.start += part.size;
		}
	}
	d->release.busy = false;
	device_leave(d);
	*ret_bytes = bytes;
	return error ? czone_fail(error, "memory of the VM is not taken: %s", strerror(-error)) : 0;
}
