// SPDX-License-Identifier: LGPL-2.1-or-later
#include "vhost_user.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/virtio_config.h>
#include <string.h>
#include <unistd.h>

#define BIT(n) (1ULL << (n))

/* Features of the rings and of the transport, which no device has to think of. */
#define TRANSPORT_FEATURES \
	(BIT(VIRTIO_F_VERSION_1) | BIT(VIRTIO_RING_F_INDIRECT_DESC) | \
	 BIT(VIRTIO_RING_F_EVENT_IDX) | BIT(VHOST_USER_F_PROTOCOL_FEATURES))

#define PROTOCOL_FEATURES \
	(BIT(VHOST_USER_PROTOCOL_F_MQ) | BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK) | \
	 BIT(VHOST_USER_PROTOCOL_F_CONFIG) | BIT(VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS) | \
	 BIT(VHOST_USER_PROTOCOL_F_STATUS))

#define CONFIG_HEADER offsetof(struct vhost_user_config, data)

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void vhost_user_init(struct vhost_user *vu, const struct vhost_user_ops *ops,
		     struct memory *memory, uint64_t features)
{
	memset(vu, 0, sizeof(*vu));
	vu->ops = ops;
	vu->memory = memory;
	vu->features_offered = features | TRANSPORT_FEATURES;
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		vu->queue[i].kick_fd = -1;
		vu->queue[i].ring.call_fd = -1;
	}
}

static void queue_stop(struct vhost_user *vu, unsigned int index)
{
	struct vhost_user_queue *q = &vu->queue[index];

	if (!q->ring.used)
		return;
	vu->ops->queue_stop(vu, index);
	q->base = virtqueue_stop(&q->ring);
}

void vhost_user_reset(struct vhost_user *vu)
{
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		queue_stop(vu, i);
		vu->queue[i].enabled = false;
		close_fd(&vu->queue[i].kick_fd);
		close_fd(&vu->queue[i].ring.call_fd);
	}
}

static int refuse(struct vhost_user *vu, const struct vhost_user_message *m, const char *why)
{
	vu->ops->complain(vu, why, m->header.request);
	return -EINVAL;
}

static bool queue_complete(const struct vhost_user_queue *q)
{
	return q->kick_fd >= 0 && q->addr_set && q->num && q->enabled;
}

static int ring_start(struct vhost_user *vu, struct vhost_user_queue *q)
{
	return virtqueue_start(&q->ring, vu->memory, q->num, q->addr.desc_user_addr,
			       q->addr.avail_user_addr, q->addr.used_user_addr, q->base,
			       vu->features & BIT(VIRTIO_RING_F_EVENT_IDX),
			       vu->features & BIT(VIRTIO_RING_F_INDIRECT_DESC));
}

/* Start a queue as soon as everything about it is known. */
static int queue_try_start(struct vhost_user *vu, const struct vhost_user_message *m,
			   unsigned int index)
{
	struct vhost_user_queue *q = &vu->queue[index];

	if (q->ring.used || !queue_complete(q))
		return 0;
	if (!vu->memory->n_regions) {
		vu->ops->private_memory(vu);
		return -EOPNOTSUPP;
	}
	if (!(vu->features & BIT(VIRTIO_F_VERSION_1)))
		return refuse(vu, m, "the driver is a legacy one");
	if (ring_start(vu, q))
		return refuse(vu, m, "the queue is not in the guest's ordinary memory");
	vu->ops->queue_start(vu, index);
	return 0;
}

void vhost_user_resume(struct vhost_user *vu)
{
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		struct vhost_user_queue *q = &vu->queue[i];

		if (!queue_complete(q) || ring_start(vu, q))
			continue;
		virtqueue_resume(&q->ring);
		q->base = q->ring.next_used;
		vu->ops->queue_start(vu, i);
	}
}

/* The queue that a message is about, or NULL. */
static struct vhost_user_queue *queue_of(struct vhost_user *vu, const struct vhost_user_message *m,
					 uint64_t index)
{
	if (index < VHOST_USER_QUEUES)
		return &vu->queue[index];
	refuse(vu, m, "there is no such queue");
	return NULL;
}

/* The only fd of a message, now the caller's; -1 when there is not exactly one. */
static int take_fd(struct vhost_user_message *m)
{
	int fd = m->fd[0];

	if (m->n_fds != 1)
		return -1;
	m->n_fds = 0;
	return fd;
}

static int set_vring(struct vhost_user *vu, struct vhost_user_message *m)
{
	struct vhost_user_queue *q = queue_of(vu, m, m->payload.state.index);
	uint32_t num = m->payload.state.num;

	if (!q)
		return -EINVAL;
	if (q->ring.used)
		return refuse(vu, m, "the queue is running");
	switch (m->header.request) {
	case VHOST_USER_SET_VRING_NUM:
		if (!num || num > VIRTQUEUE_NUM_MAX || (num & (num - 1)))
			return refuse(vu, m, "bad queue size");
		q->num = num;
		return 0;
	case VHOST_USER_SET_VRING_BASE:
		q->base = num;
		return 0;
	default:
		if (m->payload.addr.flags)
			return refuse(vu, m, "writes to the queue cannot be logged");
		q->addr = m->payload.addr;
		q->addr_set = true;
		return queue_try_start(vu, m, q - vu->queue);
	}
}

static int set_vring_fd(struct vhost_user *vu, struct vhost_user_message *m)
{
	struct vhost_user_queue *q = queue_of(vu, m, m->payload.u64 & VHOST_USER_VRING_INDEX_MASK);
	bool none = m->payload.u64 & VHOST_USER_VRING_NO_FD;
	int fd;

	if (!q)
		return -EINVAL;
	fd = take_fd(m);
	if (fd < 0 && !none)
		return refuse(vu, m, "its file descriptor is missing");
	if (fd >= 0)	/* not even a broken front-end shall make us wait */
		fcntl(fd, F_SETFL, O_NONBLOCK);
	switch (m->header.request) {
	case VHOST_USER_SET_VRING_CALL:
		close_fd(&q->ring.call_fd);
		q->ring.call_fd = fd;
		return 0;
	case VHOST_USER_SET_VRING_ERR:
		close_fd(&fd);
		return 0;
	default:
		if (fd < 0)
			return refuse(vu, m, "queues without kicks are not supported");
		queue_stop(vu, q - vu->queue);
		close_fd(&q->kick_fd);
		q->kick_fd = fd;
		return queue_try_start(vu, m, q - vu->queue);
	}
}

static int set_vring_enable(struct vhost_user *vu, struct vhost_user_message *m)
{
	struct vhost_user_queue *q = queue_of(vu, m, m->payload.state.index);

	if (!q)
		return -EINVAL;
	q->enabled = m->payload.state.num;
	if (q->enabled)
		return queue_try_start(vu, m, q - vu->queue);
	queue_stop(vu, q - vu->queue);
	return 0;
}

static void get_vring_base(struct vhost_user *vu, const struct vhost_user_message *m,
			   struct vhost_user_message *reply)
{
	struct vhost_user_queue *q = queue_of(vu, m, m->payload.state.index);

	reply->payload.state.index = m->payload.state.index;
	if (!q)
		return;
	queue_stop(vu, q - vu->queue);
	reply->payload.state.num = q->base;
	/* the driver says everything anew when it comes back */
	close_fd(&q->kick_fd);
	close_fd(&q->ring.call_fd);
	q->addr_set = false;
}

static int set_features(struct vhost_user *vu, struct vhost_user_message *m)
{
	uint64_t features = m->payload.u64;

	if (features & ~vu->features_offered)
		return refuse(vu, m, "features that were not offered");
	vu->features = features;
	if (!(features & BIT(VHOST_USER_F_PROTOCOL_FEATURES)))
		for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++)
			vu->queue[i].enabled = true;
	return 0;
}

static int set_protocol_features(struct vhost_user *vu, struct vhost_user_message *m)
{
	if (m->payload.u64 & ~PROTOCOL_FEATURES)
		return refuse(vu, m, "protocol features that were not offered");
	vu->protocol_features = m->payload.u64;
	return 0;
}

static int add_region(struct vhost_user *vu, struct vhost_user_message *m)
{
	const struct vhost_user_mem_region *r = &m->payload.region;
	const char *why;
	int fd = take_fd(m);

	if (fd < 0)
		return refuse(vu, m, "a memory region without exactly one file descriptor");
	if (memory_add(vu->memory, r->start, r->size, r->user, r->offset, fd, &why))
		return refuse(vu, m, why);
	vu->ops->memory_added(vu);
	return 0;
}

/* A queue in a region that goes can only have been put there by a strange guest. */
static void stop_queues_inside(struct vhost_user *vu, const struct vhost_user_message *m)
{
	const struct vhost_user_mem_region *r = &m->payload.region;

	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		const struct vhost_user_queue *q = &vu->queue[i];

		if (q->addr.desc_user_addr - r->user < r->size ||
		    q->addr.avail_user_addr - r->user < r->size ||
		    q->addr.used_user_addr - r->user < r->size)
			queue_stop(vu, i);
	}
}

static int remove_region(struct vhost_user *vu, struct vhost_user_message *m)
{
	const struct vhost_user_mem_region *r = &m->payload.region;

	stop_queues_inside(vu, m);
	if (memory_remove(vu->memory, r->start, r->size, r->user))
		return refuse(vu, m, "there is no such memory region");
	vu->ops->memory_removed(vu);
	return 0;
}

static void get_config(struct vhost_user *vu, const struct vhost_user_message *m,
		       struct vhost_user_message *reply)
{
	const struct vhost_user_config *asked = &m->payload.config;
	struct vhost_user_config *c = &reply->payload.config;

	if (asked->size > VHOST_USER_CONFIG_MAX ||
	    asked->offset > VHOST_USER_CONFIG_MAX - asked->size) {
		refuse(vu, m, "no such part of the configuration space");
		reply->header.size = 0;	/* which is how the protocol says no */
		return;
	}
	c->offset = asked->offset;
	c->size = asked->size;
	c->flags = asked->flags;
	memcpy(c->data, vu->config + asked->offset, asked->size);
	reply->header.size = CONFIG_HEADER + asked->size;
}

/* Bytes of payload that a request must have, or -1 for one that we do not know. */
static int payload_size(uint32_t request)
{
	switch (request) {
	case VHOST_USER_GET_FEATURES:
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_RESET_OWNER:
	case VHOST_USER_GET_PROTOCOL_FEATURES:
	case VHOST_USER_GET_QUEUE_NUM:
	case VHOST_USER_GET_MAX_MEM_SLOTS:
	case VHOST_USER_GET_STATUS:
		return 0;
	case VHOST_USER_SET_FEATURES:
	case VHOST_USER_SET_PROTOCOL_FEATURES:
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
	case VHOST_USER_SET_STATUS:
		return sizeof(uint64_t);
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_GET_VRING_BASE:
	case VHOST_USER_SET_VRING_ENABLE:
		return sizeof(struct vhost_vring_state);
	case VHOST_USER_SET_VRING_ADDR:
		return sizeof(struct vhost_vring_addr);
	case VHOST_USER_GET_CONFIG:
	case VHOST_USER_SET_CONFIG:
		return CONFIG_HEADER;
	case VHOST_USER_ADD_MEM_REG:
	case VHOST_USER_REM_MEM_REG:
		return sizeof(struct vhost_user_mem_region);
	default:
		return -1;
	}
}

/* Requests without an answer of their own: 0, or what went wrong. */
static int command(struct vhost_user *vu, struct vhost_user_message *m)
{
	switch (m->header.request) {
	case VHOST_USER_SET_FEATURES:
		return set_features(vu, m);
	case VHOST_USER_SET_PROTOCOL_FEATURES:
		return set_protocol_features(vu, m);
	case VHOST_USER_SET_OWNER:
	case VHOST_USER_RESET_OWNER:
	case VHOST_USER_SET_CONFIG:	/* all of it is read-only: writes are lost */
		return 0;
	case VHOST_USER_SET_VRING_NUM:
	case VHOST_USER_SET_VRING_BASE:
	case VHOST_USER_SET_VRING_ADDR:
		return set_vring(vu, m);
	case VHOST_USER_SET_VRING_KICK:
	case VHOST_USER_SET_VRING_CALL:
	case VHOST_USER_SET_VRING_ERR:
		return set_vring_fd(vu, m);
	case VHOST_USER_SET_VRING_ENABLE:
		return set_vring_enable(vu, m);
	case VHOST_USER_ADD_MEM_REG:
		return add_region(vu, m);
	case VHOST_USER_REM_MEM_REG:
		return remove_region(vu, m);
	case VHOST_USER_SET_STATUS:
		vu->status = m->payload.u64;
		return 0;
	default:
		return refuse(vu, m, "unknown request");
	}
}

/* Requests that ask for something; false for all others. */
static bool query(struct vhost_user *vu, const struct vhost_user_message *m,
		  struct vhost_user_message *reply)
{
	reply->header.size = sizeof(reply->payload.u64);
	switch (m->header.request) {
	case VHOST_USER_GET_FEATURES:
		reply->payload.u64 = vu->features_offered;
		return true;
	case VHOST_USER_GET_PROTOCOL_FEATURES:
		reply->payload.u64 = PROTOCOL_FEATURES;
		return true;
	case VHOST_USER_GET_QUEUE_NUM:
		reply->payload.u64 = VHOST_USER_QUEUES;
		return true;
	case VHOST_USER_GET_MAX_MEM_SLOTS:
		reply->payload.u64 = MEMORY_REGIONS_MAX;
		return true;
	case VHOST_USER_GET_STATUS:
		reply->payload.u64 = vu->status;
		return true;
	case VHOST_USER_GET_VRING_BASE:
		reply->header.size = sizeof(reply->payload.state);
		get_vring_base(vu, m, reply);
		return true;
	case VHOST_USER_GET_CONFIG:
		get_config(vu, m, reply);
		return true;
	default:
		return false;
	}
}

bool vhost_user_handle(struct vhost_user *vu, struct vhost_user_message *m,
		       struct vhost_user_message *reply)
{
	int needed = payload_size(m->header.request);
	bool answer, bad = false;

	memset(reply, 0, sizeof(*reply));
	reply->header.request = m->header.request;
	reply->header.flags = VHOST_USER_VERSION | VHOST_USER_REPLY;
	if ((m->header.flags & VHOST_USER_VERSION_MASK) != VHOST_USER_VERSION)
		bad = refuse(vu, m, "unknown version of the protocol");
	else if (needed >= 0 && m->header.size < (uint32_t)needed)
		bad = refuse(vu, m, "wrong size of a message");
	/* who asks waits for an answer; a short payload counts as zeroes then */
	answer = query(vu, m, reply);
	if (!answer) {
		reply->payload.u64 = bad || command(vu, m) ? 1 : 0;
		reply->header.size = sizeof(reply->payload.u64);
		answer = (m->header.flags & VHOST_USER_NEED_REPLY) &&
			 (vu->protocol_features & BIT(VHOST_USER_PROTOCOL_F_REPLY_ACK));
	}
	while (m->n_fds)
		close(m->fd[--m->n_fds]);
	return answer;
}
