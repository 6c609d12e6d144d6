/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The device's side of a split virtqueue. The guest can write anything into it
 * at any time, so everything is read once and checked; the first thing that
 * makes no sense breaks the queue until the driver starts it anew.
 */
#ifndef LIB_HOST_VIRTQUEUE_H
#define LIB_HOST_VIRTQUEUE_H

#include "memory.h"

#include <linux/virtio_ring.h>

#define VIRTQUEUE_NUM_MAX 1024
#define VIRTQUEUE_SEGMENTS_MAX 256

struct virtqueue {
	struct memory *memory;
	unsigned int num;
	struct vring_desc *desc;
	struct vring_avail *avail;
	struct vring_used *used;	/* all NULL while it is stopped */
	int call_fd;			/* interrupts the guest; -1: nobody wants to know */
	bool event_idx, indirect;
	uint16_t next_avail;		/* next entry to take */
	uint16_t next_used;		/* next entry to give back */
	uint16_t signalled_used;	/* next_used when the guest was last interrupted */
	bool signalled_valid;
	const char *broken;		/* why, or NULL */
	bool reported;			/* that it is, by who uses it */
};

struct virtqueue_segment {
	void *data;
	uint64_t start;		/* guest-physical, for those who keep it longer than the lock */
	uint32_t size;
};

/* One buffer: what the device may read, then what it may write. */
struct virtqueue_buffer {
	uint16_t head;
	unsigned int n_read, n;
	uint64_t read_size, write_size;
	struct virtqueue_segment segment[VIRTQUEUE_SEGMENTS_MAX];
};

/* The three addresses are the VMM's. Returns -EFAULT when they are not in its memory. */
int virtqueue_start(struct virtqueue *vq, struct memory *memory, unsigned int num, uint64_t desc,
		    uint64_t avail, uint64_t used, uint16_t base, bool event_idx, bool indirect);

/*
 * Go on where the device was when it was last seen: after what it has given
 * back. Buffers that it had taken come again.
 */
void virtqueue_resume(struct virtqueue *vq);

/*
 * Stop, and return the index to start at again. Buffers that were taken and
 * not given back come again then, in the same order.
 */
uint16_t virtqueue_stop(struct virtqueue *vq);

static inline bool virtqueue_running(const struct virtqueue *vq)
{
	return vq->used && !vq->broken;
}

/* 1: there is a buffer; 0: none; -EPROTO: the queue is broken. */
int virtqueue_pop(struct virtqueue *vq, struct virtqueue_buffer *buffer);

/* Copy out of the readable part, into the writable part; false when it is too short. */
bool virtqueue_read(const struct virtqueue_buffer *buffer, uint64_t offset, void *to, size_t size);
bool virtqueue_write(const struct virtqueue_buffer *buffer, const void *from, size_t size);

/* Give a buffer back. In the order in which they were taken. */
void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written);

/* Interrupt the guest if it wants to know about what was pushed. */
void virtqueue_notify(struct virtqueue *vq);

/* Ask for kicks; true when there is something already, so that none may come. */
bool virtqueue_want_kicks(struct virtqueue *vq);

void virtqueue_break(struct virtqueue *vq, const char *why);

#endif /* LIB_HOST_VIRTQUEUE_H */
