// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * One process goes on with the device of another: what is noted for that at
 * every change, and how it is taken up.
 */
#include "device_internal.h"
#include "../driver.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

void device_save(struct device *d, bool handled)
{
	struct takeover_state *s = takeover_begin_save(&d->takeover);

	if (handled)
		s->handled = d->takeover.file->dialogue.number;
	s->socket = takeover_fd_id(d->connection.fd);
	s->features = d->vu.features;
	s->protocol_features = d->vu.protocol_features;
	s->status = d->vu.status;
	s->backing_shift = ((struct virtio_czone_config *)d->vu.config)->backing_shift;
	s->report_shift = ((struct virtio_czone_config *)d->vu.config)->report_shift;
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		const struct vhost_user_queue *q = &d->vu.queue[i];

		s->queue[i] = (struct takeover_queue){
			.addr = q->addr, .num = q->num, .base = q->base,
			.addr_set = q->addr_set, .enabled = q->enabled,
			.kick = takeover_fd_id(q->kick_fd), .call = takeover_fd_id(q->ring.call_fd),
		};
	}
	for (; s->n_regions < d->memory.n_regions; s->n_regions++) {
		const struct memory_region *r = &d->memory.region[s->n_regions];

		s->region[s->n_regions] = (struct takeover_region){
			r->start, r->size, r->user, r->offset, { r->file->dev, r->file->ino },
		};
	}
	for (; s->n_pools < d->n_pools; s->n_pools++)
		s->pool[s->n_pools] = (struct takeover_pool){
			d->pool[s->n_pools].start, d->pool[s->n_pools].size,
		};
	takeover_end_save(&d->takeover);
}

void device_answer(struct device *d, struct vhost_user_message *m)
{
	struct vhost_user_message reply;
	bool answer = vhost_user_handle(&d->vu, m, &reply);

	takeover_message_handled(&d->takeover, answer ? &reply : NULL);
	device_save(d, true);
	d->takeover.file->dialogue.sending = 1;
	if (answer && vhost_user_send(d->connection.fd, &reply))
		device_complain(d, "no answer to vhost-user request %u could be sent",
				m->header.request);
	takeover_message_end(&d->takeover);
}

int device_hand_over(struct device *d, int ret_fds[2])
{
	int error = -ENOTCONN;

	pthread_mutex_lock(&d->lock);
	if (d->connection.fd >= 0) {
		ret_fds[0] = fcntl(d->connection.fd, F_DUPFD_CLOEXEC, 0);
		ret_fds[1] = takeover_reader(&d->takeover);
		error = ret_fds[0] < 0 || ret_fds[1] < 0 ? -errno : 0;
		for (int i = 0; error && i < 2; i++)
			if (ret_fds[i] >= 0)
				close(ret_fds[i]);
	}
	pthread_mutex_unlock(&d->lock);
	return error ? czone_fail(error, "the VM's device cannot be handed over: %s",
				  strerror(-error)) : 0;
}

/* Is a thread of the VMM in recvmsg()? Only one that waits for our answer sleeps there. */
static bool vmm_waits(pid_t pid)
{
	char path[80], line[64];
	bool waits = false;
	struct dirent *entry;
	DIR *dir;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	dir = opendir(path);
	while (dir && !waits && (entry = readdir(dir))) {
		FILE *f;

		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/syscall", (int)pid, entry->d_name);
		f = fopen(path, "re");
		waits = f && fgets(line, sizeof(line), f) && *line >= '0' && *line <= '9' &&
			atoi(line) == SYS_recvmsg;
		if (f)
			fclose(f);
	}
	if (dir)
		closedir(dir);
	return waits;
}

/* The other process died around sending this answer: has it gone out? */
static bool reply_is_due(struct device *d, const struct takeover_dialogue *g)
{
	int unread = 0, next = 0;

	if (g->sent || !g->reply.header.request)
		return false;
	if (!g->sending)
		return true;
	ioctl(d->connection.fd, SIOCOUTQ, &unread);
	ioctl(d->connection.fd, SIOCINQ, &next);
	return !unread && !next && vmm_waits(d->peer);
}

static int finish_dialogue(struct device *d, uint64_t handled)
{
	struct takeover_dialogue g = d->takeover.file->dialogue;
	struct vhost_user_message m = { .header = g.message.header };

	if (!g.taken.header.request)	/* the message is still in the socket, if there is one */
		return 0;
	if (g.message.header.size > sizeof(m.payload) || g.n_fds > VHOST_USER_FDS_MAX ||
	    g.reply.header.size > sizeof(m.payload))
		return -EPROTO;
	if (g.number == handled + 1) {
		memcpy(&m.payload, g.message.payload, m.header.size);
		while (m.n_fds < g.n_fds) {
			int fd = takeover_get_fd(d->peer, g.fd[m.n_fds]);

			if (fd < 0)
				break;		/* the handler misses it, and says so */
			m.fd[m.n_fds++] = fd;
		}
		device_answer(d, &m);
	} else if (reply_is_due(d, &g)) {
		m.header = g.reply.header;
		memcpy(&m.payload, g.reply.payload, m.header.size);
		if (vhost_user_send(d->connection.fd, &m))
			return -EIO;
		takeover_message_end(&d->takeover);
	}
	return 0;
}

/* A descriptor of the VMM's that may be absent; -1: it is. */
static int optional_fd(struct device *d, struct takeover_id id)
{
	int fd = takeover_get_fd(d->peer, id);

	return fd < 0 ? -1 : fd;
}

/* Everything that the VMM has given the other process. */
static int restore(struct device *d, const struct takeover_state *s)
{
	const char *why;
	int fd, error;

	if (s->n_regions > MEMORY_REGIONS_MAX || s->n_pools > MEMORY_POOLS_MAX)
		return -EPROTO;
	for (unsigned int i = 0; i < s->n_regions; i++) {
		const struct takeover_region *r = &s->region[i];

		fd = takeover_get_fd(d->peer, r->file);
		error = fd < 0 ? fd : memory_add(&d->memory, r->start, r->size, r->user, r->offset,
						 fd, &why);
		if (error)
			return error;
	}
	for (unsigned int i = 0; i < s->n_pools; i++) {
		const struct takeover_pool *p = &s->pool[i];

		error = memory_add_pool(&d->memory, p->start, p->size);
		if (error)
			return error;
		/* it may have it: ask before anything is punched or offered */
		d->pool[d->n_pools++] = (struct pool){
			.start = p->start, .size = p->size, .known = true,
		};
	}
	d->vu.features = s->features;
	d->vu.protocol_features = s->protocol_features;
	d->vu.status = s->status;
	device_config_set(d, s->backing_shift, s->report_shift);
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		const struct takeover_queue *from = &s->queue[i];
		struct vhost_user_queue *q = &d->vu.queue[i];

		q->addr = from->addr;
		q->num = from->num;
		q->base = from->base;
		q->addr_set = from->addr_set;
		q->enabled = from->enabled;
		q->kick_fd = optional_fd(d, from->kick);
		q->ring.call_fd = optional_fd(d, from->call);
	}
	fd = takeover_get_fd(d->peer, s->socket);
	return fd < 0 ? fd : poll_source_add(&d->connection, fd);
}

static int adopt(struct device *d)
{
	struct takeover_state *s = malloc(sizeof(*s));
	int error;

	if (!s)
		return -ENOMEM;
	*s = *takeover_saved(&d->takeover);
	pthread_mutex_lock(&d->lock);
	d->peer = d->takeover.file->vmm;
	d->adopted = true;
	error = restore(d, s);
	if (!error) {
		/* answers to what the other one asked must not look like answers to us */
		if (getrandom(&d->last_id, sizeof(d->last_id), GRND_NONBLOCK) < 0)
			d->last_id = (uint32_t)getpid() << 16;
		takeover_claim(&d->takeover);
		vhost_user_resume(&d->vu);
		/* what it did, but did not come to tell the guest */
		for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++)
			if (d->vu.queue[i].ring.call_fd >= 0)
				eventfd_write(d->vu.queue[i].ring.call_fd, 1);
		error = finish_dialogue(d, s->handled);
	}
	pthread_mutex_unlock(&d->lock);
	free(s);
	return error;
}

int device_adopt(const char *socket_path, struct device **ret_device)
{
	struct device *d = device_new(socket_path);
	int error;

	if (!d)
		return czone_fail(-ENOMEM, "no memory for a device");
	error = takeover_find(&d->takeover, socket_path);
	if (error) {
		device_free(d);
		return error;
	}
	error = device_threads_get();
	if (error) {
		czone_fail(error, "the threads of the device do not start: %s", strerror(-error));
		device_free(d);
		return error;
	}
	error = adopt(d);
	if (error) {
		device_close(d);
		return czone_fail(error, "the device of %s cannot be taken over: %s", socket_path,
				  strerror(-error));
	}
	*ret_device = d;
	return 0;
}
