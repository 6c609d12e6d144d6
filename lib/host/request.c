// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the host asks the guest: in buffers of the event queue, answered on the reply queue. */
#include "device_internal.h"
#include "../thread.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#define ERRNO_MAX 4095
#define NOTICES_PER_SECOND 100

static void request_done(struct device *d, struct request *r, int error)
{
	request_forget(d, r);
	r->error = error;
	r->done = true;
	if (r->answered)
		r->answered(d, r);
	pthread_cond_broadcast(&d->changed);
}

int request_start(struct device *d, struct request *r, uint32_t timeout_ms)
{
	struct request **end = &d->requests;

	if (d->gone || d->closing)
		return -ESHUTDOWN;
	if (!d->up)
		return -ENOTCONN;
	if (device_vq(d, VIRTIO_CZONE_VQ_EVENT)->broken ||
	    device_vq(d, VIRTIO_CZONE_VQ_REPLY)->broken)
		return -EPROTO;
	r->next = NULL;
	r->sent = r->done = r->replied = false;
	r->timeout_ms = timeout_ms;
	r->deadline = now_ms() + timeout_ms;
	if (!++d->last_id)
		d->last_id++;	/* 0 is for notices */
	r->id = d->last_id;
	while (*end)
		end = &(*end)->next;
	*end = r;
	requests_send(d);
	return 0;
}

void request_forget(struct device *d, struct request *r)
{
	struct request **p = &d->requests;

	while (*p && *p != r)
		p = &(*p)->next;
	if (*p)
		*p = r->next;
}

void requests_fail(struct device *d, int error)
{
	while (d->requests)
		request_done(d, d->requests, error);
}

/* A buffer that the guest has posted for us; 0 when there is none: a kick will tell. */
static int event_buffer(struct virtqueue *vq, struct virtqueue_buffer *b)
{
	int found;

	do
		found = virtqueue_pop(vq, b);
	while (!found && virtqueue_want_kicks(vq));
	return found;
}

static void send_one(struct device *d, struct virtqueue *vq, struct request *r, uint64_t now)
{
	struct virtio_czone_request wire = {
		.id = htole32(r->id),
		.op = htole16(r->ask.op),
		.zone = htole32(r->ask.zone),
		.timeout_ms = htole32(now < r->deadline ? r->deadline - now : r->timeout_ms),
	};

	for (int i = 0; i < 4; i++)
		wire.arg[i] = htole64(r->ask.arg[i]);
	if (r->ask.path) {
		size_t n = strlen(r->ask.path);

		wire.path_len = htole16(n);
		memcpy(wire.path, r->ask.path, n);
	}
	if (!virtqueue_write(&d->buffer, &wire, sizeof(wire))) {
		virtqueue_break(vq, "event buffer is too small");
		return;
	}
	virtqueue_push(vq, d->buffer.head, sizeof(wire));
	r->sent = true;
}

void requests_send(struct device *d)
{
	struct virtqueue *vq = device_vq(d, VIRTIO_CZONE_VQ_EVENT);
	uint64_t now = now_ms();
	struct request *r, *next;

	if (!d->up || !d->requests || !device_queue_mapped(d, VIRTIO_CZONE_VQ_EVENT))
		return;
	for (r = d->requests; r; r = next) {
		next = r->next;
		if (r->sent)
			continue;
		/* of our own ones nobody will ask again, so they wait as long as it takes */
		if (now >= r->deadline && !r->answered) {
			request_done(d, r, -ETIMEDOUT);
			continue;
		}
		if (event_buffer(vq, &d->buffer) <= 0)
			break;
		send_one(d, vq, r, now);
	}
	virtqueue_notify(vq);
	device_check_queue(d, VIRTIO_CZONE_VQ_EVENT);
}

/* What the guest tells by itself. It may tell anything, so not too much of it goes on. */
static void take_notice(struct device *d, uint32_t kind, uint32_t zone, uint64_t value)
{
	uint64_t now = now_ms();

	if (now - d->notices_at >= 1000) {
		d->notices_at = now;
		d->notices = 0;
	}
	if (d->notices++ >= NOTICES_PER_SECOND || zone == CZONE_ID_VM)
		return;
	switch (kind) {
	case CZONE_NOTICE_FULL:
		device_tell(d, CZONE_EVENT_ZONE_FULL, zone, 0);
		break;
	case CZONE_NOTICE_CREATED:
		device_tell(d, CZONE_EVENT_ZONE_CREATED, zone, value);
		quota_zone_made(d, zone, value);
		break;
	case CZONE_NOTICE_DESTROYED:
		device_tell(d, CZONE_EVENT_ZONE_DESTROYED, zone, CZONE_UNKNOWN);
		break;
	}
}

void request_take_reply(struct device *d, const struct virtqueue_buffer *b)
{
	const size_t head = offsetof(struct virtio_czone_reply, value);
	struct virtqueue *vq = device_vq(d, VIRTIO_CZONE_VQ_REPLY);
	struct virtio_czone_reply wire = { 0 };
	struct request *r = d->requests;
	uint32_t count, status;

	if (!virtqueue_read(b, 0, &wire, head)) {
		virtqueue_break(vq, "reply is too short");
		return;
	}
	count = le32toh(wire.count);
	status = le32toh(wire.status);
	if (count > VIRTIO_CZONE_VALUES_MAX || status > ERRNO_MAX ||
	    !virtqueue_read(b, head, wire.value, count * sizeof(wire.value[0]))) {
		device_complain(d, "a reply makes no sense: status %u with %u values in %llu bytes",
				status, le32toh(wire.count), (unsigned long long)b->read_size);
		count = 0;
		status = EPROTO;
	}
	virtqueue_push(vq, b->head, 0);
	if (wire.id == htole32(VIRTIO_CZONE_NOTICE_ID)) {
		take_notice(d, status, le32toh(wire.zone), count ? le64toh(wire.value[0]) : CZONE_UNKNOWN);
		return;
	}
	while (r && (!r->sent || r->id != le32toh(wire.id)))
		r = r->next;
	if (!r)
		return;		/* nobody waits for it any more */
	r->replied = true;
	r->reply.zone = le32toh(wire.zone);
	r->reply.count = count;
	for (uint32_t i = 0; i < VIRTIO_CZONE_VALUES_MAX; i++)
		r->reply.value[i] = i < count ? le64toh(wire.value[i]) : 0;
	request_done(d, r, -(int)status);
}
