/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The back-end's side of the vhost-user protocol: what a message means and what
 * the answer is. Knows no socket; vhost_user_socket.h brings the messages.
 *
 * QEMU aborts when the connection of this device ends, so nothing that arrives
 * may end it: what makes no sense is complained about and refused.
 */
#ifndef LIB_HOST_VHOST_USER_H
#define LIB_HOST_VHOST_USER_H

#include "memory.h"
#include "virtqueue.h"

#include <linux/vhost_types.h>

#define VHOST_USER_QUEUES 3
#define VHOST_USER_FDS_MAX 8
#define VHOST_USER_CONFIG_MAX 256

enum vhost_user_request {
	VHOST_USER_GET_FEATURES = 1,
	VHOST_USER_SET_FEATURES = 2,
	VHOST_USER_SET_OWNER = 3,
	VHOST_USER_RESET_OWNER = 4,
	VHOST_USER_SET_VRING_NUM = 8,
	VHOST_USER_SET_VRING_ADDR = 9,
	VHOST_USER_SET_VRING_BASE = 10,
	VHOST_USER_GET_VRING_BASE = 11,
	VHOST_USER_SET_VRING_KICK = 12,
	VHOST_USER_SET_VRING_CALL = 13,
	VHOST_USER_SET_VRING_ERR = 14,
	VHOST_USER_GET_PROTOCOL_FEATURES = 15,
	VHOST_USER_SET_PROTOCOL_FEATURES = 16,
	VHOST_USER_GET_QUEUE_NUM = 17,
	VHOST_USER_SET_VRING_ENABLE = 18,
	VHOST_USER_GET_CONFIG = 24,
	VHOST_USER_SET_CONFIG = 25,
	VHOST_USER_GET_MAX_MEM_SLOTS = 36,
	VHOST_USER_ADD_MEM_REG = 37,
	VHOST_USER_REM_MEM_REG = 38,
	VHOST_USER_SET_STATUS = 39,
	VHOST_USER_GET_STATUS = 40,
};

#define VHOST_USER_VERSION	0x1
#define VHOST_USER_VERSION_MASK	0x3
#define VHOST_USER_REPLY	0x4
#define VHOST_USER_NEED_REPLY	0x8

#define VHOST_USER_VRING_INDEX_MASK	0xff
#define VHOST_USER_VRING_NO_FD		0x100

#define VHOST_USER_F_PROTOCOL_FEATURES	30

enum vhost_user_protocol_feature {
	VHOST_USER_PROTOCOL_F_MQ = 0,
	VHOST_USER_PROTOCOL_F_REPLY_ACK = 3,
	VHOST_USER_PROTOCOL_F_CONFIG = 9,
	VHOST_USER_PROTOCOL_F_CONFIGURE_MEM_SLOTS = 15,
	VHOST_USER_PROTOCOL_F_STATUS = 16,
};

struct vhost_user_header {
	uint32_t request;
	uint32_t flags;
	uint32_t size;		/* of the payload */
};

struct vhost_user_mem_region {
	uint64_t padding;
	uint64_t start;
	uint64_t size;
	uint64_t user;
	uint64_t offset;
};

struct vhost_user_config {
	uint32_t offset;
	uint32_t size;
	uint32_t flags;
	uint8_t data[VHOST_USER_CONFIG_MAX];
};

/* In the byte order of this machine, as the protocol has it. */
struct vhost_user_message {
	struct vhost_user_header header;
	union {
		uint64_t u64;
		struct vhost_vring_state state;
		struct vhost_vring_addr addr;
		struct vhost_user_mem_region region;
		struct vhost_user_config config;
	} payload;
	int fd[VHOST_USER_FDS_MAX];
	unsigned int n_fds;
};

struct vhost_user_queue {
	struct virtqueue ring;
	unsigned int num;
	struct vhost_vring_addr addr;
	uint16_t base;
	int kick_fd;
	bool addr_set;
	bool enabled;
};

struct vhost_user;

/* What the device does about it. Called by vhost_user_handle() only. */
struct vhost_user_ops {
	/* a queue has begun to run; it is not to be touched any more after queue_stop */
	void (*queue_start)(struct vhost_user *vu, unsigned int index);
	void (*queue_stop)(struct vhost_user *vu, unsigned int index);
	void (*memory_added)(struct vhost_user *vu);
	/* on return nothing works on the region's file any more */
	void (*memory_removed)(struct vhost_user *vu);
	/* the guest's memory cannot be reached: nothing will ever work */
	void (*private_memory)(struct vhost_user *vu);
	void (*complain)(struct vhost_user *vu, const char *what, uint32_t request);
};

struct vhost_user {
	const struct vhost_user_ops *ops;
	struct memory *memory;
	uint64_t features_offered;	/* with those that every device has */
	uint64_t features, protocol_features;	/* acknowledged */
	uint64_t status;
	struct vhost_user_queue queue[VHOST_USER_QUEUES];
	uint8_t config[VHOST_USER_CONFIG_MAX];
	size_t config_size;
};

void vhost_user_init(struct vhost_user *vu, const struct vhost_user_ops *ops,
		     struct memory *memory, uint64_t features);

/*
 * Start the queues of a driver that runs, in the place of a back-end that has
 * died; everything but the rings is filled in.
 */
void vhost_user_resume(struct vhost_user *vu);

/* Forget the connection: stop the queues, close what came by it. Keeps the memory. */
void vhost_user_reset(struct vhost_user *vu);

/*
 * Takes all fds of the message. Returns true when *reply is to be sent. The
 * payload must have been zeroed beyond header.size.
 */
bool vhost_user_handle(struct vhost_user *vu, struct vhost_user_message *message,
		       struct vhost_user_message *reply);

/* Is the queue one that may be worked on now? */
static inline bool vhost_user_queue_live(const struct vhost_user *vu, unsigned int index)
{
	return vu->queue[index].enabled && vu->queue[index].ring.used;
}

#endif /* LIB_HOST_VHOST_USER_H */
