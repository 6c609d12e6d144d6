// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * Offering the pools to the guest. What the guest's kernel gets must read as
 * zero, and after a reboot the pool's file is full of the old kernel's data. A
 * driver that was only unbound and bound again looks the same from here, but
 * then the zones are alive: so the guest is asked first what it has.
 */
#include "device_internal.h"
#include "log_queue.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define OFFER_TIMEOUT_MS 60000
#define PROBE_TIMEOUT_MS 10000

/* No zone's: never merged with reports. */
#define CLEANING_ZONE UINT32_MAX

struct cleaning {
	struct punch_job job;
	struct device *device;
	struct pool *pool;
	unsigned int session;
	struct device_range range;
};

static void pool_refused(struct device *d, struct pool *p, int error)
{
	p->state = POOL_REFUSED;
	p->error = error;
	device_complain(d, "the pool at %#llx is not offered or not taken: %s",
			(unsigned long long)p->start, strerror(-error));
	pthread_cond_broadcast(&d->changed);
}

static void offer_answered(struct device *d, struct request *r)
{
	struct pool *p = (struct pool *)((char *)r - offsetof(struct pool, offer));

	if (!r->replied) {
		/* the driver has gone; pools_driver_started() goes on */
		p->state = POOL_WAITING;
	} else if (!r->error || r->error == -EEXIST) {
		p->state = POOL_TAKEN;
		log_later(CZONE_LOG_INFO, "VM %d has taken its pool, %llu MiB at %#llx",
			  (int)d->peer, (unsigned long long)p->size >> 20,
			  (unsigned long long)p->start);
		device_tell_ready(d);
	} else {
		pool_refused(d, p, r->error);
	}
}

static void pool_offer(struct device *d, struct pool *p)
{
	bool zero = p->clean && (d->vu.features & 1ULL << VIRTIO_CZONE_F_ZEROES);
	uint64_t flags = zero ? VIRTIO_CZONE_REGION_ZERO : 0;

	p->offer = (struct request){
		.ask = { .op = VIRTIO_CZONE_OP_ADD_REGION, .arg = { p->start, p->size, flags } },
		.answered = offer_answered,
	};
	p->state = POOL_OFFERED;
	p->known = true;
	if (request_start(d, &p->offer, OFFER_TIMEOUT_MS))
		p->state = POOL_WAITING;
}

static void cleaning_done(struct punch_job *job)
{
	struct cleaning *c = (struct cleaning *)job;
	struct device *d = c->device;

	pthread_mutex_lock(&d->lock);
	if (d->up && c->session == d->session && c->pool->state == POOL_CLEANING) {
		if (job->error) {
			pool_refused(d, c->pool, job->error);
		} else {
			c->pool->clean = true;
			c->pool->state = POOL_WAITING;
			pools_advance(d);
		}
	}
	pthread_mutex_unlock(&d->lock);
	free(c);
}

static void pool_clean(struct device *d, struct pool *p)
{
	struct cleaning *c = calloc(1, sizeof(*c));

	if (!c) {
		pool_refused(d, p, -ENOMEM);
		return;
	}
	c->device = d;
	c->pool = p;
	c->session = d->session;
	c->range = (struct device_range){ p->start, p->size };
	c->job.zone = CLEANING_ZONE;
	c->job.done = cleaning_done;
	c->job.range = &c->range;
	c->job.n = 1;
	p->state = POOL_CLEANING;
	punch_submit(&d->punch, &c->job);
}

/* Has the VMM handed over all of it? */
static bool pool_present(struct device *d, const struct pool *p)
{
	uint64_t at = p->start, left = p->size, offset, here;

	while (left) {
		struct memory_file *file = memory_file_at(&d->memory, at, &offset, &here);

		if (!file)
			return false;
		memory_file_put(file);
		if (here > left)
			here = left;
		at += here;
		left -= here;
	}
	return true;
}

/* Would a release of what the guest may report free anything? */
static bool pool_releasable(struct device *d, const struct pool *p)
{
	const struct virtio_czone_config *config = (const void *)d->vu.config;
	uint64_t offset, here;
	struct memory_file *file = memory_file_at(&d->memory, p->start, &offset, &here);
	bool fine = !file || file->granule <= 1ULL << config->report_shift;

	if (!fine)
		device_complain(d, "the pool is on pages of %llu KiB, of which the guest was told %u",
				(unsigned long long)file->granule >> 10, 1u << config->report_shift >> 10);
	if (file)
		memory_file_put(file);
	return fine;
}

static void probe_answered(struct device *d, struct request *r)
{
	if (!r->replied) {
		d->probe = PROBE_NEEDED;
		return;
	}
	d->probe = PROBE_DONE;
	d->guest_keeps = r->reply.value[CZONE_STAT_SIZE];
	/* without knowing what it has, neither punching nor offering is safe */
	for (unsigned int i = 0; r->error && i < d->n_pools; i++)
		pool_refused(d, &d->pool[i], r->error);
	pools_advance(d);
}

static bool probe(struct device *d)
{
	bool needed = false;

	if (d->probe == PROBE_NEEDED) {
		for (unsigned int i = 0; i < d->n_pools; i++)
			needed |= d->pool[i].known;
		d->probe = needed ? PROBE_ASKED : PROBE_DONE;
		d->guest_keeps = false;
		d->probing = (struct request){
			.ask = { .op = VIRTIO_CZONE_OP_STATS, .zone = CZONE_ID_VM },
			.answered = probe_answered,
		};
		if (needed && request_start(d, &d->probing, PROBE_TIMEOUT_MS))
			d->probe = PROBE_NEEDED;
	}
	return d->probe == PROBE_DONE;
}

void pools_advance(struct device *d)
{
	if (!d->up || !probe(d))
		return;
	for (unsigned int i = 0; i < d->n_pools; i++) {
		struct pool *p = &d->pool[i];

		if (p->state != POOL_WAITING || !pool_present(d, p))
			continue;
		if (!pool_releasable(d, p)) {
			pool_refused(d, p, -EOPNOTSUPP);
			continue;
		}
		if (p->clean || (p->known && d->guest_keeps))
			pool_offer(d, p);
		else
			pool_clean(d, p);
	}
	pthread_cond_broadcast(&d->changed);
}

/* anew: the driver knows nothing of us; else it was only held up, as while the VM was paused. */
void pools_driver_started(struct device *d, bool anew)
{
	if (anew) {
		d->probe = PROBE_NEEDED;
		for (unsigned int i = 0; i < d->n_pools; i++) {
			d->pool[i].state = POOL_WAITING;
			d->pool[i].clean = false;
		}
	}
	pools_advance(d);
}

/* After the jobs were cancelled and the requests have failed. */
void pools_driver_stopped(struct device *d)
{
	for (unsigned int i = 0; i < d->n_pools; i++)
		if (d->pool[i].state == POOL_CLEANING || d->pool[i].state == POOL_OFFERED)
			d->pool[i].state = POOL_WAITING;
}
