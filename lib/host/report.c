// SPDX-License-Identifier: LGPL-2.1-or-later
/* What the guest gives back: checked here, punched by punch.c, acknowledged here. */
#include "device_internal.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct report {
	struct punch_job job;
	struct device *device;
	unsigned int session;
	uint16_t head;
	uint64_t status_at;	/* guest-physical: mappings may change until it is written */
	int refused;		/* what is wrong with the first range that was left out */
	struct device_range range[];
};

/* May this be taken away from the guest? 0, -EINVAL or -EFAULT. */
static int check_range(struct device *d, uint32_t zone, const struct device_range *r)
{
	uint64_t end, offset, left, granule;
	struct memory_file *file;
	bool hugetlb;

	if (!r->size || __builtin_add_overflow(r->start, r->size, &end))
		return -EINVAL;
	if (!memory_in_pool(&d->memory, r->start, r->size) &&
	    (zone != CZONE_ID_VM || memory_overlaps_pool(&d->memory, r->start, r->size)))
		return -EFAULT;
	file = memory_file_at(&d->memory, r->start, &offset, &left);
	if (!file)
		return -EFAULT;
	granule = file->granule;
	hugetlb = file->hugetlb;
	memory_file_put(file);
	if (r->size > left)
		return -EFAULT;
	if (offset % granule || r->start % granule || r->size % granule)
		return -EINVAL;
	/*
	 * Rings and buffers are outside the pools, where a huge page that has
	 * gone may not come again: touching it would be SIGBUS for us.
	 */
	if (hugetlb && !memory_in_pool(&d->memory, r->start, r->size))
		return -EFAULT;
	return 0;
}

/* Write the answer and give the buffer back. */
static void acknowledge(struct device *d, struct report *report)
{
	struct virtqueue *vq = device_vq(d, VIRTIO_CZONE_VQ_REPORT);
	int failed = report->job.error;
	struct virtio_czone_report_status status = {
		.status = htole32(failed ? EIO : -report->refused),
		.done = htole32(failed ? 0 : report->job.n),
		.bytes = htole64(report->job.bytes),
	};
	void *to;

	if (!virtqueue_running(vq) || !device_queue_mapped(d, VIRTIO_CZONE_VQ_REPORT))
		return;
	to = memory_at(&d->memory, report->status_at, sizeof(status));
	if (to)		/* wherever the guest wants it, on whichever boundary */
		memcpy(to, &status, sizeof(status));
	virtqueue_push(vq, report->head, to ? sizeof(status) : 0);
	if (!report->job.next)	/* one interrupt for all that were punched together */
		virtqueue_notify(vq);
}

static void report_done(struct punch_job *job)
{
	struct report *report = (struct report *)job;
	struct device *d = report->device;

	atomic_fetch_add(&d->returned, job->bytes);
	pthread_mutex_lock(&d->lock);
	/* after a restart of the driver the buffer is no longer the one we took */
	if (d->up && report->session == d->session)
		acknowledge(d, report);
	pthread_mutex_unlock(&d->lock);
	free(report);
}

void report_take(struct device *d, const struct virtqueue_buffer *b)
{
	struct virtqueue *vq = device_vq(d, VIRTIO_CZONE_VQ_REPORT);
	const struct virtqueue_segment *answer = &b->segment[b->n_read];
	struct virtio_czone_report header;
	struct report *report;
	uint32_t count;

	if (b->n != b->n_read + 1 || answer->size < sizeof(struct virtio_czone_report_status)) {
		virtqueue_break(vq, "report without one writable part for its status");
		return;
	}
	if (!virtqueue_read(b, 0, &header, sizeof(header))) {
		virtqueue_break(vq, "report is too short");
		return;
	}
	count = le32toh(header.count);
	if (count > DEVICE_MAX_RANGES)
		count = DEVICE_MAX_RANGES;
	report = calloc(1, sizeof(*report) + count * sizeof(report->range[0]));
	if (!report) {
		virtqueue_break(vq, "no memory for a report");
		return;
	}
	report->device = d;
	report->session = d->session;
	report->head = b->head;
	report->status_at = answer->start;
	report->job.done = report_done;
	report->job.zone = le32toh(header.zone);
	report->job.range = report->range;
	if (count != le32toh(header.count) ||
	    !virtqueue_read(b, sizeof(header), report->range, count * sizeof(report->range[0]))) {
		report->refused = -EINVAL;
		device_complain(d, "report of zone %u: %u ranges in %llu bytes", report->job.zone,
				le32toh(header.count), (unsigned long long)b->read_size);
		count = 0;
	}
	for (uint32_t i = 0; i < count; i++) {
		struct device_range r = {
			le64toh(report->range[i].start), le64toh(report->range[i].size),
		};
		int error = check_range(d, report->job.zone, &r);

		if (!error)
			report->range[report->job.n++] = r;
		else if (!report->refused)
			report->refused = error;
		if (error)
			device_complain(d, "report of zone %u: %#llx+%#llx is refused: %s",
					report->job.zone, (unsigned long long)r.start,
					(unsigned long long)r.size, strerror(-error));
	}
	/* also with nothing to do: buffers go back in the order in which they came */
	punch_submit(&d->punch, &report->job);
}
