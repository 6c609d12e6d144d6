// SPDX-License-Identifier: LGPL-2.1-or-later
#include "virtqueue.h"

#include <endian.h>
#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>

#define DESC_KNOWN (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE | VRING_DESC_F_INDIRECT)

/* Guest memory changes under our feet: one access for each of these, in this order. */
static uint16_t load16(const uint16_t *from)
{
	return le16toh(__atomic_load_n(from, __ATOMIC_ACQUIRE));
}

static void store16(uint16_t *to, uint16_t value)
{
	__atomic_store_n(to, htole16(value), __ATOMIC_RELEASE);
}

static struct vring_desc load_desc(const struct vring_desc *from)
{
	const volatile struct vring_desc *d = from;

	return (struct vring_desc){
		.addr = le64toh(d->addr), .len = le32toh(d->len),
		.flags = le16toh(d->flags), .next = le16toh(d->next),
	};
}

/* The last word of each ring says up to where the other side wants to be left alone. */
static uint16_t *used_event(struct virtqueue *vq)
{
	return &vq->avail->ring[vq->num];
}

static uint16_t *avail_event(struct virtqueue *vq)
{
	return (uint16_t *)&vq->used->ring[vq->num];
}

int virtqueue_start(struct virtqueue *vq, struct memory *memory, unsigned int num, uint64_t desc,
		    uint64_t avail, uint64_t used, uint16_t base, bool event_idx, bool indirect)
{
	void *d, *a, *u;

	if (!num || num > VIRTQUEUE_NUM_MAX || (num & (num - 1)) ||
	    desc % 16 || avail % 2 || used % 4)
		return -EINVAL;
	d = memory_at_user(memory, desc, sizeof(struct vring_desc) * num);
	a = memory_at_user(memory, avail, sizeof(uint16_t) * (3 + num));
	u = memory_at_user(memory, used,
			   sizeof(uint16_t) * 3 + sizeof(struct vring_used_elem) * num);
	if (!d || !a || !u)
		return -EFAULT;
	vq->memory = memory;
	vq->num = num;
	vq->desc = d;
	vq->avail = a;
	vq->used = u;
	vq->event_idx = event_idx;
	vq->indirect = indirect;
	vq->next_avail = vq->next_used = base;
	vq->signalled_valid = false;
	vq->broken = NULL;
	vq->reported = false;
	return 0;
}

void virtqueue_resume(struct virtqueue *vq)
{
	vq->next_avail = vq->next_used = load16(&vq->used->idx);
}

uint16_t virtqueue_stop(struct virtqueue *vq)
{
	vq->desc = NULL;
	vq->avail = NULL;
	vq->used = NULL;
	vq->broken = NULL;
	vq->next_avail = vq->next_used;
	return vq->next_used;
}

void virtqueue_break(struct virtqueue *vq, const char *why)
{
	if (!vq->broken)
		vq->broken = why;
}

static int broken(struct virtqueue *vq, const char *why)
{
	virtqueue_break(vq, why);
	return -EPROTO;
}

static int add_segment(struct virtqueue *vq, struct virtqueue_buffer *b, const struct vring_desc *d)
{
	bool writable = d->flags & VRING_DESC_F_WRITE;
	struct virtqueue_segment *s = &b->segment[b->n];

	if (d->flags & ~DESC_KNOWN)
		return broken(vq, "unknown descriptor flags");
	if (!writable && b->n > b->n_read)
		return broken(vq, "readable descriptor after a writable one");
	if (!d->len)
		return 0;
	if (b->n == VIRTQUEUE_SEGMENTS_MAX)
		return broken(vq, "descriptor chain is too long");
	s->data = memory_at(vq->memory, d->addr, d->len);
	if (!s->data)
		return broken(vq, "descriptor outside the guest's ordinary memory");
	s->start = d->addr;
	s->size = d->len;
	b->n++;
	if (writable) {
		b->write_size += d->len;
	} else {
		b->n_read++;
		b->read_size += d->len;
	}
	return 0;
}

static int walk(struct virtqueue *vq, struct virtqueue_buffer *b)
{
	struct vring_desc *table = vq->desc, d;
	unsigned int n = vq->num, at = b->head, steps = 0;

	d = load_desc(&table[at]);
	if (d.flags & VRING_DESC_F_INDIRECT) {
		if (!vq->indirect)
			return broken(vq, "indirect descriptor without the feature");
		if (d.flags & (VRING_DESC_F_NEXT | VRING_DESC_F_WRITE))
			return broken(vq, "indirect descriptor with other flags");
		if (!d.len || d.len % sizeof(d) || d.len / sizeof(d) > VIRTQUEUE_SEGMENTS_MAX)
			return broken(vq, "bad length of an indirect table");
		n = d.len / sizeof(d);
		table = memory_at(vq->memory, d.addr, d.len);
		if (!table || d.addr % 8)
			return broken(vq, "indirect table outside the guest's ordinary memory");
		d = load_desc(&table[0]);
	}
	for (;;) {
		int error;

		if (d.flags & VRING_DESC_F_INDIRECT)
			return broken(vq, "indirect descriptor inside a chain");
		error = add_segment(vq, b, &d);
		if (error)
			return error;
		if (!(d.flags & VRING_DESC_F_NEXT))
			return 1;
		if (++steps >= n)
			return broken(vq, "descriptor chain is a loop");
		at = d.next;
		if (at >= n)
			return broken(vq, "next descriptor outside the table");
		d = load_desc(&table[at]);
	}
}

int virtqueue_pop(struct virtqueue *vq, struct virtqueue_buffer *b)
{
	uint16_t there;

	if (!vq->used)
		return 0;
	if (vq->broken)
		return -EPROTO;
	there = load16(&vq->avail->idx) - vq->next_avail;
	if (!there)
		return 0;
	/* also counts what was taken and is not given back yet */
	if ((uint16_t)(there + (vq->next_avail - vq->next_used)) > vq->num)
		return broken(vq, "available index runs away");
	b->head = load16(&vq->avail->ring[vq->next_avail & (vq->num - 1)]);
	if (b->head >= vq->num)
		return broken(vq, "descriptor head outside the table");
	b->n = b->n_read = 0;
	b->read_size = b->write_size = 0;
	vq->next_avail++;
	return walk(vq, b);
}

bool virtqueue_read(const struct virtqueue_buffer *b, uint64_t offset, void *to, size_t size)
{
	char *p = to;

	if (offset > b->read_size || size > b->read_size - offset)
		return false;
	for (unsigned int i = 0; size; i++) {
		const struct virtqueue_segment *s = &b->segment[i];
		size_t n;

		if (offset >= s->size) {
			offset -= s->size;
			continue;
		}
		n = s->size - offset < size ? s->size - offset : size;
		memcpy(p, (char *)s->data + offset, n);
		p += n;
		size -= n;
		offset = 0;
	}
	/* checks are to be made on the copy, never by looking again */
	__asm__ __volatile__("" ::: "memory");
	return true;
}

bool virtqueue_write(const struct virtqueue_buffer *b, const void *from, size_t size)
{
	const char *p = from;

	if (size > b->write_size)
		return false;
	for (unsigned int i = b->n_read; size; i++) {
		const struct virtqueue_segment *s = &b->segment[i];
		size_t n = s->size < size ? s->size : size;

		memcpy(s->data, p, n);
		p += n;
		size -= n;
	}
	return true;
}

void virtqueue_push(struct virtqueue *vq, uint16_t head, uint32_t written)
{
	struct vring_used_elem *e;

	if (!virtqueue_running(vq))
		return;
	e = &vq->used->ring[vq->next_used & (vq->num - 1)];
	e->id = htole32(head);
	e->len = htole32(written);
	store16(&vq->used->idx, ++vq->next_used);
}

void virtqueue_notify(struct virtqueue *vq)
{
	uint16_t old = vq->signalled_used, new = vq->next_used;
	bool wanted;

	if (!virtqueue_running(vq) || (vq->signalled_valid && old == new))
		return;
	__sync_synchronize();	/* used->idx is out before we look */
	if (vq->event_idx)
		wanted = !vq->signalled_valid ||
			 vring_need_event(load16(used_event(vq)), new, old);
	else
		wanted = !(load16(&vq->avail->flags) & VRING_AVAIL_F_NO_INTERRUPT);
	vq->signalled_used = new;
	vq->signalled_valid = true;
	if (wanted && vq->call_fd >= 0)
		eventfd_write(vq->call_fd, 1);
}

bool virtqueue_want_kicks(struct virtqueue *vq)
{
	if (!virtqueue_running(vq))
		return false;
	if (vq->event_idx)
		store16(avail_event(vq), vq->next_avail);
	__sync_synchronize();	/* the guest sees it before we look */
	return load16(&vq->avail->idx) != vq->next_avail;
}
