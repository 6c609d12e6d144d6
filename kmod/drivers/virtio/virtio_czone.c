// SPDX-License-Identifier: GPL-2.0-only
/*
 * czone-virtio: the host asks for zones and for memory, and gets both through
 * this driver. docs/virtio-czone.md specifies the device.
 *
 * The device is trusted with the memory that it backs anyway, but not with an
 * index, a length or an id: all it writes is copied once and checked.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/cc_platform.h>
#include <linux/cgroup.h>
#include <linux/czone.h>
#include <linux/jiffies.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/scatterlist.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/virtio.h>
#include <linux/virtio_config.h>
#include <linux/workqueue.h>
#include <uapi/linux/virtio_czone.h>

#define VCZ_EVENTS	16	/* buffers on the event queue */
#define VCZ_SLOTS	32	/* requests that are being answered */
#define VCZ_CHANGES	16	/* thereof those that may take long */
#define VCZ_REPORTS	4	/* reports in flight */
#define VCZ_SHIFT_MIN	12	/* of both shifts in the configuration */

/* A device that owes an answer is looked after this often. */
#define VCZ_CHECK	msecs_to_jiffies(1000)
/* It is reset so often in a row, the first time at once, each time after a longer while. */
#define VCZ_RESETS	5
#define VCZ_RESET_MS	250
/* Having worked for so long it is as good as new. */
#define VCZ_STEADY	msecs_to_jiffies(60000)

/* One request, from its arrival until the device has read the reply. */
struct vcz_slot {
	struct virtio_czone *vcz;
	struct list_head list;		/* in vcz->free */
	struct work_struct work;
	unsigned long deadline;		/* jiffies, unless request.timeout_ms is 0 */
	bool change;			/* counts as one of VCZ_CHANGES */
	struct virtio_czone_request request;
	struct virtio_czone_reply reply;
};

struct vcz_report {
	struct czone_batch *batch;	/* NULL: free */
	u64 bytes;			/* sum of the ranges */
	struct virtio_czone_report_status status ____cacheline_aligned;
	struct virtio_czone_report head ____cacheline_aligned;
	struct virtio_czone_range range[CZONE_BATCH_RANGES];
};

struct virtio_czone {
	struct virtio_device *vdev;
	struct virtqueue *vq[VIRTIO_CZONE_VQ_MAX];
	struct workqueue_struct *wq;
	struct czone_transport transport;

	struct delayed_work check;	/* one at a time: looks after the device, resets it */
	bool up;			/* there are queues; written by probe, check, PM */
	unsigned int resets;		/* in a row */
	unsigned long started;		/* jiffies */

	spinlock_t lock;		/* event and reply queue, and what follows */
	bool running;
	unsigned int changes;		/* slots in use with change set */
	struct list_head free;
	struct vcz_slot *slot[VCZ_SLOTS];
	struct virtio_czone_request *event;

	spinlock_t report_lock;		/* report queue, and what follows */
	bool reporting;
	u64 seq;
	struct vcz_report *report[VCZ_REPORTS];
	struct work_struct report_work;
};

static void vcz_check_later(struct virtio_czone *vcz)
{
	queue_delayed_work(system_unbound_wq, &vcz->check, VCZ_CHECK);
}

/* Something is wrong with the device, or may be. Any context. */
static void vcz_check_now(struct virtio_czone *vcz)
{
	mod_delayed_work(system_unbound_wq, &vcz->check, 0);
}

/*
 * With the lock of the queue, so that nobody is still about to notify when the
 * device is reset.
 */
static void vcz_kick(struct virtio_czone *vcz, enum virtio_czone_vq nr)
{
	if (!virtqueue_kick(vcz->vq[nr]))
		vcz_check_now(vcz);
}

/* ---- Requests ---- */

static int vcz_op_extents(struct vcz_slot *slot, u32 zone, unsigned int first)
{
	struct czone_extent extent[VIRTIO_CZONE_VALUES_MAX / 2];
	struct virtio_czone_reply *reply = &slot->reply;
	int count, i;

	count = czone_extents(zone, first, extent, ARRAY_SIZE(extent));
	if (count < 0)
		return count;

	for (i = 0; i < count; i++) {
		reply->value[2 * i] = cpu_to_le64(extent[i].start);
		reply->value[2 * i + 1] = cpu_to_le64(extent[i].size);
	}
	reply->count = cpu_to_le32(2 * count);
	return 0;
}

static void vcz_set_values(struct vcz_slot *slot, const u64 *value, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		slot->reply.value[i] = cpu_to_le64(value[i]);
	slot->reply.count = cpu_to_le32(count);
}

static int vcz_op_attach(struct vcz_slot *slot, u32 zone, u32 flags, unsigned int timeout_ms)
{
	const struct virtio_czone_request *request = &slot->request;
	unsigned int len = le16_to_cpu(request->path_len);
	u64 result[__CZONE_RESULT_MAX];
	struct cgroup *cgrp;
	char *path;
	int err;

	if (!len || memchr(request->path, '\0', len))
		return -EINVAL;

	path = kmemdup_nul(request->path, len, GFP_KERNEL);
	if (!path)
		return -ENOMEM;

	cgrp = cgroup_get_from_path(path);
	kfree(path);
	if (IS_ERR(cgrp))
		return PTR_ERR(cgrp);

	err = czone_attach(zone, cgrp, flags, timeout_ms, result);
	cgroup_put(cgrp);
	vcz_set_values(slot, result, ARRAY_SIZE(result));
	return err;
}

static int vcz_op_stats(struct vcz_slot *slot, u32 zone)
{
	u64 stat[__CZONE_STAT_MAX] = {};
	int err;

	BUILD_BUG_ON(ARRAY_SIZE(stat) > VIRTIO_CZONE_VALUES_MAX);

	err = czone_stats(zone, stat);
	if (!err)
		vcz_set_values(slot, stat, ARRAY_SIZE(stat));
	return err;
}

/* What was done is worth knowing even when it was not all that was asked for. */
static int vcz_op_give_back(struct vcz_slot *slot, unsigned int op, u32 zone, u64 arg0, u64 arg1,
			    unsigned int timeout_ms)
{
	u64 result[__CZONE_RESULT_MAX] = {};
	int err;

	BUILD_BUG_ON(ARRAY_SIZE(result) > VIRTIO_CZONE_VALUES_MAX);

	if (op == VIRTIO_CZONE_OP_DESTROY)
		err = czone_destroy(zone, arg0, timeout_ms, result);
	else
		err = czone_reclaim(zone, arg0, arg1, timeout_ms, result);
	vcz_set_values(slot, result, ARRAY_SIZE(result));
	return err;
}

static int vcz_execute(struct vcz_slot *slot)
{
	const struct virtio_czone_request *request = &slot->request;
	unsigned int timeout_ms = le32_to_cpu(request->timeout_ms);
	unsigned int op = le16_to_cpu(request->op);
	u32 zone = le32_to_cpu(request->zone);
	u64 arg0 = le64_to_cpu(request->arg[0]);
	u64 arg1 = le64_to_cpu(request->arg[1]);
	u64 arg2 = le64_to_cpu(request->arg[2]);
	long left;
	int err;

	if (timeout_ms) {
		left = slot->deadline - jiffies;
		if (left <= 0)
			return -ETIMEDOUT;
		timeout_ms = jiffies_to_msecs(left);
	}

	switch (op) {
	case VIRTIO_CZONE_OP_ADD_REGION:
		if (le64_to_cpu(request->arg[2]) & ~(u64)VIRTIO_CZONE_REGION_ZERO)
			return -EINVAL;
		return czone_region_add(arg0, arg1, slot->vcz->transport.zeroes &&
					(request->arg[2] & cpu_to_le64(VIRTIO_CZONE_REGION_ZERO)));
	case VIRTIO_CZONE_OP_CREATE:
		if (arg1 > U32_MAX || arg2 > U32_MAX)
			return -EINVAL;
		err = czone_create(arg0, arg1, arg2, &zone);
		if (err)
			return err;
		slot->reply.zone = cpu_to_le32(zone);
		/* The zone is there: that its extents are not told is no failure. */
		vcz_op_extents(slot, zone, 0);
		return 0;
	case VIRTIO_CZONE_OP_RESIZE:
		err = czone_resize(zone, arg0);
		if (err)
			return err;
		vcz_op_extents(slot, zone, 0);
		return 0;
	case VIRTIO_CZONE_OP_ATTACH:
		if (arg0 > U32_MAX)
			return -EINVAL;
		return vcz_op_attach(slot, zone, arg0, timeout_ms);
	case VIRTIO_CZONE_OP_DESTROY:
		if (arg0 > U32_MAX)
			return -EINVAL;
		return vcz_op_give_back(slot, op, zone, arg0, 0, timeout_ms);
	case VIRTIO_CZONE_OP_RECLAIM:
		if (arg1 > U32_MAX)
			return -EINVAL;
		return vcz_op_give_back(slot, op, zone, arg0, arg1, timeout_ms);
	case VIRTIO_CZONE_OP_STATS:
		return vcz_op_stats(slot, zone);
	case VIRTIO_CZONE_OP_NEXT:
		zone = czone_next(zone);
		if (!zone)
			return -ENOENT;
		slot->reply.zone = cpu_to_le32(zone);
		return 0;
	case VIRTIO_CZONE_OP_EXTENTS:
		if (arg0 > UINT_MAX)
			return -EINVAL;
		return vcz_op_extents(slot, zone, arg0);
	case VIRTIO_CZONE_OP_SET_IDLE:
		if (arg0 > U32_MAX)
			return -EINVAL;
		return czone_set_idle(zone, arg0, arg1);
	default:
		return -EOPNOTSUPP;
	}
}

/* Operations that may wait for memory, for locks or for the host. */
static bool vcz_is_change(unsigned int op)
{
	switch (op) {
	case VIRTIO_CZONE_OP_ADD_REGION:
	case VIRTIO_CZONE_OP_CREATE:
	case VIRTIO_CZONE_OP_RESIZE:
	case VIRTIO_CZONE_OP_ATTACH:
	case VIRTIO_CZONE_OP_DESTROY:
	case VIRTIO_CZONE_OP_RECLAIM:
	case VIRTIO_CZONE_OP_SET_IDLE:
		return true;
	default:
		return false;
	}
}

static bool vcz_is_lookup(unsigned int op)
{
	return op == VIRTIO_CZONE_OP_STATS || op == VIRTIO_CZONE_OP_NEXT ||
	       op == VIRTIO_CZONE_OP_EXTENTS;
}

static void vcz_put_slot(struct virtio_czone *vcz, struct vcz_slot *slot)
{
	lockdep_assert_held(&vcz->lock);
	list_add(&slot->list, &vcz->free);
}

/* Replies that the device has read are collected here, not in an interrupt. */
static struct vcz_slot *vcz_get_slot(struct virtio_czone *vcz)
{
	struct vcz_slot *slot;
	unsigned int len;

	lockdep_assert_held(&vcz->lock);

	while ((slot = virtqueue_get_buf(vcz->vq[VIRTIO_CZONE_VQ_REPLY], &len)))
		vcz_put_slot(vcz, slot);

	slot = list_first_entry_or_null(&vcz->free, struct vcz_slot, list);
	if (slot)
		list_del(&slot->list);
	return slot;
}

static void vcz_reply(struct vcz_slot *slot, int err)
{
	struct virtio_czone_reply *reply = &slot->reply;
	struct virtio_czone *vcz = slot->vcz;
	struct scatterlist sg;

	lockdep_assert_held(&vcz->lock);

	if (slot->change)
		vcz->changes--;

	reply->status = cpu_to_le32(-err);
	sg_init_one(&sg, reply,
		    offsetof(struct virtio_czone_reply, value[le32_to_cpu(reply->count)]));
	if (!vcz->running)
		goto put;
	/* There are no more slots than the queue has room for: it fails if it is broken. */
	if (!virtqueue_add_outbuf(vcz->vq[VIRTIO_CZONE_VQ_REPLY], &sg, 1, slot, GFP_NOWAIT))
		return;
	vcz_check_now(vcz);
put:
	vcz_put_slot(vcz, slot);
}

/* Like a reply that nobody asked for. With 32 requests under way it is lost. */
static void vcz_notice(struct czone_transport *transport, enum czone_notice kind, u32 zone,
		       u64 value)
{
	struct virtio_czone *vcz = container_of(transport, struct virtio_czone, transport);
	struct vcz_slot *slot = NULL;
	unsigned long flags;

	spin_lock_irqsave(&vcz->lock, flags);
	if (vcz->running)
		slot = vcz_get_slot(vcz);
	if (slot) {
		slot->change = false;
		slot->reply.id = cpu_to_le32(VIRTIO_CZONE_NOTICE_ID);
		slot->reply.zone = cpu_to_le32(zone);
		vcz_set_values(slot, &value, 1);
		vcz_reply(slot, -(int)kind);
		vcz_kick(vcz, VIRTIO_CZONE_VQ_REPLY);
	}
	spin_unlock_irqrestore(&vcz->lock, flags);
}

static void vcz_work(struct work_struct *work)
{
	struct vcz_slot *slot = container_of(work, struct vcz_slot, work);
	struct virtio_czone *vcz = slot->vcz;
	unsigned long flags;
	int err;

	err = vcz_execute(slot);

	spin_lock_irqsave(&vcz->lock, flags);
	vcz_reply(slot, err);
	if (vcz->running)
		vcz_kick(vcz, VIRTIO_CZONE_VQ_REPLY);
	spin_unlock_irqrestore(&vcz->lock, flags);
}

/* Answer what needs no sleep at once, so that a ping is fast; queue the rest. */
static bool vcz_start_request(struct virtio_czone *vcz, struct vcz_slot *slot, unsigned int len)
{
	const size_t fixed = offsetof(struct virtio_czone_request, path);
	struct virtio_czone_request *request = &slot->request;
	unsigned int op = le16_to_cpu(request->op);
	int err;

	memset(&slot->reply, 0, offsetof(struct virtio_czone_reply, value));
	slot->reply.id = request->id;
	slot->reply.zone = request->zone;
	slot->change = false;

	if (len > sizeof(*request) || le16_to_cpu(request->path_len) > len - fixed) {
		err = -EINVAL;
	} else if (vcz_is_change(op)) {
		if (vcz->changes < VCZ_CHANGES) {
			vcz->changes++;
			slot->change = true;
			goto queue;
		}
		err = -EBUSY;
	} else if (vcz_is_lookup(op)) {
		goto queue;
	} else {
		err = op == VIRTIO_CZONE_OP_PING ? 0 : -EOPNOTSUPP;
	}
	vcz_reply(slot, err);
	return true;

queue:
	slot->deadline = jiffies + msecs_to_jiffies(le32_to_cpu(request->timeout_ms));
	queue_work(vcz->wq, &slot->work);
	return false;
}

static int vcz_post_event(struct virtio_czone *vcz, struct virtio_czone_request *event)
{
	struct scatterlist sg;

	sg_init_one(&sg, event, sizeof(*event));
	return virtqueue_add_inbuf(vcz->vq[VIRTIO_CZONE_VQ_EVENT], &sg, 1, event, GFP_NOWAIT);
}

/*
 * Take every request that has arrived. Without a free slot they wait in the
 * event queue, and the device's reading of a reply calls us again.
 */
static void vcz_take_requests(struct virtio_czone *vcz)
{
	struct virtqueue *events = vcz->vq[VIRTIO_CZONE_VQ_EVENT];
	struct virtqueue *replies = vcz->vq[VIRTIO_CZONE_VQ_REPLY];
	bool posted = false, replied = false;
	struct virtio_czone_request *event;
	struct vcz_slot *slot;
	unsigned long flags;
	unsigned int len;

	spin_lock_irqsave(&vcz->lock, flags);
	while (vcz->running) {
		slot = vcz_get_slot(vcz);
		if (!slot) {
			if (virtqueue_enable_cb(replies))
				break;
			continue;
		}

		virtqueue_disable_cb(events);
		event = virtqueue_get_buf(events, &len);
		if (!event) {
			vcz_put_slot(vcz, slot);
			if (virtqueue_enable_cb(events))
				break;
			continue;
		}

		if (len < offsetof(struct virtio_czone_request, path)) {
			dev_warn_ratelimited(&vcz->vdev->dev, "request of %u bytes ignored\n", len);
			vcz_put_slot(vcz, slot);
		} else {
			memcpy(&slot->request, event, min_t(size_t, len, sizeof(*event)));
			replied |= vcz_start_request(vcz, slot, len);
		}
		if (vcz_post_event(vcz, event))
			break;
		posted = true;
	}
	if (posted)
		vcz_kick(vcz, VIRTIO_CZONE_VQ_EVENT);
	if (replied)
		vcz_kick(vcz, VIRTIO_CZONE_VQ_REPLY);
	if (vcz->running && (virtqueue_is_broken(events) || virtqueue_is_broken(replies)))
		vcz_check_now(vcz);
	spin_unlock_irqrestore(&vcz->lock, flags);
}

static void vcz_event_done(struct virtqueue *vq)
{
	vcz_take_requests(vq->vdev->priv);
}

static void vcz_reply_done(struct virtqueue *vq)
{
	virtqueue_disable_cb(vq);
	vcz_take_requests(vq->vdev->priv);
}

/* ---- Reports ---- */

static int vcz_submit(struct czone_transport *transport, struct czone_batch *batch)
{
	struct virtio_czone *vcz = container_of(transport, struct virtio_czone, transport);
	struct virtqueue *vq = vcz->vq[VIRTIO_CZONE_VQ_REPORT];
	struct scatterlist out, in, *sgs[] = { &out, &in };
	struct vcz_report *report = NULL;
	unsigned int i;
	int err;

	if (!batch->count || batch->count > transport->max_ranges)
		return -EINVAL;

	spin_lock_bh(&vcz->report_lock);
	if (!vcz->reporting) {
		err = -ENODEV;
		goto unlock;
	}

	for (i = 0; i < VCZ_REPORTS; i++) {
		if (!vcz->report[i]->batch) {
			report = vcz->report[i];
			break;
		}
	}
	if (!report) {
		err = -EAGAIN;
		goto unlock;
	}

	report->bytes = 0;
	for (i = 0; i < batch->count; i++) {
		report->range[i].start = cpu_to_le64(batch->range[i].start);
		report->range[i].size = cpu_to_le64(batch->range[i].size);
		report->bytes += batch->range[i].size;
	}
	report->head.zone = cpu_to_le32(batch->zone);
	report->head.count = cpu_to_le32(batch->count);
	report->head.seq = cpu_to_le64(vcz->seq);

	sg_init_one(&out, &report->head,
		    sizeof(report->head) + batch->count * sizeof(report->range[0]));
	sg_init_one(&in, &report->status, sizeof(report->status));
	/* Without memory for an indirect descriptor the ring's own do: it has enough of them. */
	if (virtqueue_add_sgs(vq, sgs, 1, 1, report, GFP_NOWAIT)) {
		vcz_check_now(vcz);
		err = -ENODEV;
		goto unlock;
	}

	report->batch = batch;
	vcz->seq++;
	vcz_kick(vcz, VIRTIO_CZONE_VQ_REPORT);
	vcz_check_later(vcz);
	err = 0;
unlock:
	spin_unlock_bh(&vcz->report_lock);
	return err;
}

/* What the device says about a report, when it can be true; else -EIO. */
static int vcz_report_status(const struct virtio_czone *vcz, const struct vcz_report *report,
			     unsigned int len, u64 *bytes)
{
	u32 status = le32_to_cpu(report->status.status);
	u32 done = le32_to_cpu(report->status.done);

	*bytes = le64_to_cpu(report->status.bytes);
	if (len >= sizeof(report->status) && status <= MAX_ERRNO &&
	    done <= report->batch->count && (status || done == report->batch->count) &&
	    *bytes <= report->bytes)
		return -(int)status;

	dev_err_ratelimited(&vcz->vdev->dev,
			    "bad answer to a report: %u bytes, status %u, %u of %u ranges, %llu of %llu bytes\n",
			    len, status, done, report->batch->count, *bytes, report->bytes);
	*bytes = 0;
	return -EIO;
}

static void vcz_report_work(struct work_struct *work)
{
	struct virtio_czone *vcz = container_of(work, struct virtio_czone, report_work);
	struct virtqueue *vq = vcz->vq[VIRTIO_CZONE_VQ_REPORT];
	struct czone_batch *batch;
	struct vcz_report *report;
	unsigned int len;
	u64 bytes;
	int err;

	spin_lock_bh(&vcz->report_lock);
	do {
		virtqueue_disable_cb(vq);
		while ((report = virtqueue_get_buf(vq, &len))) {
			err = vcz_report_status(vcz, report, len, &bytes);
			batch = report->batch;
			report->batch = NULL;

			/* It may want to submit the next one. */
			spin_unlock_bh(&vcz->report_lock);
			czone_batch_complete(batch, err, bytes);
			spin_lock_bh(&vcz->report_lock);
		}
	} while (!virtqueue_enable_cb(vq));
	if (virtqueue_is_broken(vq))
		vcz_check_now(vcz);
	spin_unlock_bh(&vcz->report_lock);
}

static void vcz_report_done(struct virtqueue *vq)
{
	struct virtio_czone *vcz = vq->vdev->priv;

	virtqueue_disable_cb(vq);
	queue_work(system_bh_wq, &vcz->report_work);
}

/* ---- Life ---- */

static int vcz_read_config(struct virtio_czone *vcz)
{
	struct virtio_device *vdev = vcz->vdev;
	u8 report_shift, backing_shift;
	u32 max_ranges;

	virtio_cread_le(vdev, struct virtio_czone_config, report_shift, &report_shift);
	virtio_cread_le(vdev, struct virtio_czone_config, backing_shift, &backing_shift);
	virtio_cread_le(vdev, struct virtio_czone_config, max_ranges, &max_ranges);

	if (report_shift < VCZ_SHIFT_MIN || report_shift > CZONE_BLOCK_SHIFT ||
	    backing_shift < VCZ_SHIFT_MIN || backing_shift > CZONE_BLOCK_SHIFT || !max_ranges) {
		dev_err(&vdev->dev,
			"unusable limits: report_shift %u, backing_shift %u, max_ranges %u\n",
			report_shift, backing_shift, max_ranges);
		return -EINVAL;
	}

	vcz->transport.name = KBUILD_MODNAME;
	vcz->transport.report_shift = max(report_shift, PAGE_SHIFT);
	vcz->transport.backing_shift = max(backing_shift, PAGE_SHIFT);
	vcz->transport.zeroes = virtio_has_feature(vdev, VIRTIO_CZONE_F_ZEROES);
	vcz->transport.max_ranges = min(max_ranges, CZONE_BATCH_RANGES);
	vcz->transport.submit = vcz_submit;
	vcz->transport.notice = vcz_notice;
	return 0;
}

/* Once the device is reset it cannot act any more on what it was given. */
static void vcz_stop(struct virtio_czone *vcz)
{
	struct czone_batch *batch;
	unsigned int i;

	if (!vcz->up)
		return;
	vcz->up = false;

	spin_lock_irq(&vcz->lock);
	vcz->running = false;
	spin_unlock_irq(&vcz->lock);
	spin_lock_bh(&vcz->report_lock);
	vcz->reporting = false;
	spin_unlock_bh(&vcz->report_lock);

	virtio_reset_device(vcz->vdev);
	cancel_work_sync(&vcz->report_work);
	for (i = 0; i < VCZ_REPORTS; i++) {
		batch = vcz->report[i]->batch;
		vcz->report[i]->batch = NULL;
		if (batch)
			czone_batch_complete(batch, -ENODEV, 0);
	}
	czone_unregister_transport(&vcz->transport);

	/* Nothing left to wait for: requests under way now fail soon. */
	flush_workqueue(vcz->wq);
	vcz->vdev->config->del_vqs(vcz->vdev);
}

static int vcz_start(struct virtio_czone *vcz)
{
	struct virtqueue_info info[VIRTIO_CZONE_VQ_MAX] = {
		[VIRTIO_CZONE_VQ_EVENT] = { "event", vcz_event_done },
		[VIRTIO_CZONE_VQ_REPLY] = { "reply", vcz_reply_done },
		[VIRTIO_CZONE_VQ_REPORT] = { "report", vcz_report_done },
	};
	struct virtio_device *vdev = vcz->vdev;
	unsigned int i, slots, events, reports;
	int err;

	err = virtio_find_vqs(vdev, VIRTIO_CZONE_VQ_MAX, vcz->vq, info, NULL);
	if (err)
		return err;

	/* Replies that were read are collected when a slot is needed. */
	virtqueue_disable_cb(vcz->vq[VIRTIO_CZONE_VQ_REPLY]);
	events = virtqueue_get_vring_size(vcz->vq[VIRTIO_CZONE_VQ_EVENT]);
	slots = virtqueue_get_vring_size(vcz->vq[VIRTIO_CZONE_VQ_REPLY]);
	reports = virtqueue_get_vring_size(vcz->vq[VIRTIO_CZONE_VQ_REPORT]);
	if (events < VCZ_EVENTS || slots < VCZ_SLOTS || reports < 2 * VCZ_REPORTS) {
		dev_err(&vdev->dev, "queues of %u, %u and %u are too small\n", events, slots,
			reports);
		err = -EINVAL;
		goto del_vqs;
	}

	INIT_LIST_HEAD(&vcz->free);
	for (i = 0; i < VCZ_SLOTS; i++)
		list_add(&vcz->slot[i]->list, &vcz->free);

	virtio_device_ready(vdev);
	vcz->up = true;
	vcz->started = jiffies;
	vcz->reporting = true;
	err = czone_register_transport(&vcz->transport);
	if (err) {
		dev_err(&vdev->dev, "zones already have another device: %d\n", err);
		goto stop;
	}

	spin_lock_irq(&vcz->lock);
	for (i = 0; i < VCZ_EVENTS && !err; i++)
		err = vcz_post_event(vcz, &vcz->event[i]);
	vcz->running = !err;
	if (!err)
		vcz_kick(vcz, VIRTIO_CZONE_VQ_EVENT);
	spin_unlock_irq(&vcz->lock);
	if (!err)
		return 0;
stop:
	vcz_stop(vcz);
	return err;

del_vqs:
	vdev->config->del_vqs(vdev);
	return err;
}

/* From a device in any state to one that works, with the features that it had. */
static int vcz_restart(struct virtio_czone *vcz)
{
	struct virtio_device *vdev = vcz->vdev;
	int err;

	virtio_reset_device(vdev);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_ACKNOWLEDGE);
	virtio_add_status(vdev, VIRTIO_CONFIG_S_DRIVER);
	err = vdev->config->finalize_features(vdev);
	if (err)
		return err;
	virtio_add_status(vdev, VIRTIO_CONFIG_S_FEATURES_OK);
	if (!(vdev->config->get_status(vdev) & VIRTIO_CONFIG_S_FEATURES_OK))
		return -ENODEV;
	err = vcz_read_config(vcz);
	return err ?: vcz_start(vcz);
}

/* Also when somebody else has reset the device: it has forgotten what it was given then. */
static bool vcz_needs_reset(struct virtio_czone *vcz)
{
	u8 status = vcz->vdev->config->get_status(vcz->vdev);
	unsigned int i;

	for (i = 0; i < VIRTIO_CZONE_VQ_MAX; i++)
		if (virtqueue_is_broken(vcz->vq[i]))
			return true;
	return status & VIRTIO_CONFIG_S_NEEDS_RESET || !(status & VIRTIO_CONFIG_S_DRIVER_OK);
}

static bool vcz_is_owed(struct virtio_czone *vcz)
{
	bool owed = false;
	unsigned int i;

	spin_lock_bh(&vcz->report_lock);
	for (i = 0; i < VCZ_REPORTS; i++)
		owed |= !!vcz->report[i]->batch;
	spin_unlock_bh(&vcz->report_lock);
	return owed;
}

/*
 * A device in trouble is reset and started again. Only the reset makes sure that
 * it does not act any more on the reports that it has, so their pages come back
 * here and not before. A device that is merely slow is left alone: its host may
 * have stopped for a while, and a reset would have to wait for it.
 */
static void vcz_check_work(struct work_struct *work)
{
	struct virtio_czone *vcz = container_of(work, struct virtio_czone, check.work);
	struct device *dev = &vcz->vdev->dev;
	unsigned int wait_ms;

	if (vcz->up) {
		if (!vcz_needs_reset(vcz)) {
			if (vcz_is_owed(vcz))
				vcz_check_later(vcz);
			return;
		}
		dev_warn(dev, "the device needs a reset\n");
		if (time_after(jiffies, vcz->started + VCZ_STEADY))
			vcz->resets = 0;
		vcz_stop(vcz);
	} else if (!vcz_restart(vcz)) {
		dev_info(dev, "the device works again\n");
		return;
	}

	if (vcz->resets >= VCZ_RESETS) {
		dev_err(dev, "the device is given up, until the driver is bound again\n");
		return;
	}
	wait_ms = vcz->resets ? VCZ_RESET_MS << vcz->resets : 0;
	vcz->resets++;
	mod_delayed_work(system_unbound_wq, &vcz->check, msecs_to_jiffies(wait_ms));
}

/* From now on; what went wrong before was not noticed. */
static void vcz_watch(struct virtio_czone *vcz)
{
	enable_delayed_work(&vcz->check);
	vcz_check_now(vcz);
}

/* The only change that a device makes is in its status. */
static void vcz_config_changed(struct virtio_device *vdev)
{
	vcz_check_now(vdev->priv);
}

static void vcz_free(struct virtio_czone *vcz)
{
	unsigned int i;

	if (vcz->wq)
		destroy_workqueue(vcz->wq);
	for (i = 0; i < VCZ_SLOTS; i++)
		kfree(vcz->slot[i]);
	for (i = 0; i < VCZ_REPORTS; i++)
		kfree(vcz->report[i]);
	kfree(vcz->event);
	kfree(vcz);
}

static struct virtio_czone *vcz_alloc(struct virtio_device *vdev)
{
	struct virtio_czone *vcz;
	unsigned int i;

	vcz = kzalloc(sizeof(*vcz), GFP_KERNEL);
	if (!vcz)
		return NULL;

	vcz->vdev = vdev;
	spin_lock_init(&vcz->lock);
	spin_lock_init(&vcz->report_lock);
	INIT_WORK(&vcz->report_work, vcz_report_work);
	INIT_DELAYED_WORK(&vcz->check, vcz_check_work);
	disable_delayed_work(&vcz->check);

	/* Unbound and concurrent: one slow zone holds up nobody else's request. */
	vcz->wq = alloc_workqueue("virtio_czone", WQ_UNBOUND | WQ_MEM_RECLAIM, VCZ_SLOTS);
	vcz->event = kcalloc(VCZ_EVENTS, sizeof(*vcz->event), GFP_KERNEL);
	if (!vcz->wq || !vcz->event)
		goto free;

	for (i = 0; i < VCZ_SLOTS; i++) {
		vcz->slot[i] = kzalloc(sizeof(*vcz->slot[i]), GFP_KERNEL);
		if (!vcz->slot[i])
			goto free;
		vcz->slot[i]->vcz = vcz;
		INIT_WORK(&vcz->slot[i]->work, vcz_work);
	}
	for (i = 0; i < VCZ_REPORTS; i++) {
		vcz->report[i] = kzalloc(sizeof(*vcz->report[i]), GFP_KERNEL);
		if (!vcz->report[i])
			goto free;
	}
	return vcz;

free:
	vcz_free(vcz);
	return NULL;
}

/* The id is borrowed: make sure that this is ours before anything else is done. */
static int vcz_validate(struct virtio_device *vdev)
{
	u32 magic;
	u16 version;

	if (!vdev->config->get)
		return -ENODEV;

	virtio_cread_le(vdev, struct virtio_czone_config, magic, &magic);
	if (magic != VIRTIO_CZONE_MAGIC)
		return -ENODEV;

	virtio_cread_le(vdev, struct virtio_czone_config, version, &version);
	if (version != VIRTIO_CZONE_VERSION) {
		dev_err(&vdev->dev, "version %u of the device, this driver knows %u\n", version,
			VIRTIO_CZONE_VERSION);
		return -ENODEV;
	}
	if (!virtio_has_feature(vdev, VIRTIO_F_VERSION_1)) {
		dev_err(&vdev->dev, "not a device of virtio 1\n");
		return -ENODEV;
	}

	/* Where the host cannot see memory, its word that memory is zero is worth nothing. */
	if (cc_platform_has(CC_ATTR_GUEST_MEM_ENCRYPT))
		__virtio_clear_bit(vdev, VIRTIO_CZONE_F_ZEROES);
	return 0;
}

static int vcz_probe(struct virtio_device *vdev)
{
	struct virtio_czone *vcz;
	int err;

	vcz = vcz_alloc(vdev);
	if (!vcz)
		return -ENOMEM;
	vdev->priv = vcz;

	err = vcz_read_config(vcz);
	if (!err)
		err = vcz_start(vcz);
	if (err) {
		vcz_free(vcz);
		return err;
	}
	vcz_watch(vcz);
	return 0;
}

static void vcz_remove(struct virtio_device *vdev)
{
	struct virtio_czone *vcz = vdev->priv;

	disable_delayed_work_sync(&vcz->check);
	vcz_stop(vcz);
	vcz_free(vcz);
}

static int __maybe_unused vcz_freeze(struct virtio_device *vdev)
{
	struct virtio_czone *vcz = vdev->priv;

	disable_delayed_work_sync(&vcz->check);
	vcz_stop(vcz);
	return 0;
}

static int __maybe_unused vcz_restore(struct virtio_device *vdev)
{
	struct virtio_czone *vcz = vdev->priv;
	int err;

	err = vcz_start(vcz);
	if (!err)
		vcz_watch(vcz);
	return err;
}

static const struct virtio_device_id vcz_id_table[] = {
	{ VIRTIO_CZONE_ID, VIRTIO_DEV_ANY_ID },
	{ 0 },
};
MODULE_DEVICE_TABLE(virtio, vcz_id_table);

static const unsigned int vcz_features[] = {
	VIRTIO_CZONE_F_ZEROES,
};

static struct virtio_driver vcz_driver = {
	.feature_table = vcz_features,
	.feature_table_size = ARRAY_SIZE(vcz_features),
	.driver.name = KBUILD_MODNAME,
	.id_table = vcz_id_table,
	.validate = vcz_validate,
	.probe = vcz_probe,
	.remove = vcz_remove,
	.config_changed = vcz_config_changed,
#ifdef CONFIG_PM_SLEEP
	.freeze = vcz_freeze,
	.restore = vcz_restore,
#endif
};
module_virtio_driver(vcz_driver);

MODULE_DESCRIPTION("Virtio driver for memory zones of containers");
MODULE_LICENSE("GPL");
