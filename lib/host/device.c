// SPDX-License-Identifier: LGPL-2.1-or-later
#include "device_internal.h"
#include "log_queue.h"
#include "../thread.h"
#include "../driver.h"

#include <endian.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* Work per wake-up, so that no VM keeps the thread from the others. */
#define BUFFERS_PER_KICK 64
#define US_PER_KICK 250
#define MESSAGES_PER_WAKE 16

/* A request's own limit is the guest's; its late answer is better than none. */
#define ANSWER_GRACE_MS 1000

#define COMPLAINTS_BURST 10
#define COMPLAINT_EVERY_MS 1000

void device_complain(struct device *d, const char *format, ...)
{
	uint64_t now = now_ms(), back = (now - d->complaints_at) / COMPLAINT_EVERY_MS;
	char text[200];
	va_list ap;

	if (back) {
		d->complaints -= back < d->complaints ? back : d->complaints;
		d->complaints_at = now;
	}
	if (d->complaints == COMPLAINTS_BURST)
		return;
	d->complaints++;
	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_later(CZONE_LOG_WARNING, "VM %d: %s", (int)d->peer, text);
}

void device_tell_error(struct device *d, enum czone_event_kind kind, uint32_t zone, uint64_t bytes,
		       int error)
{
	if (d->news)
		d->news(d->news_userdata, kind, zone, bytes, error);
}

void device_tell(struct device *d, enum czone_event_kind kind, uint32_t zone, uint64_t bytes)
{
	device_tell_error(d, kind, zone, bytes, 0);
}

void device_free_job(struct punch_job *job)
{
	free(job);
}

/* ------------------------------------------------------------------ queues */

void device_check_queue(struct device *d, unsigned int index)
{
	static const char *const name[] = { "event", "reply", "report" };
	struct virtqueue *vq = device_vq(d, index);

	if (!vq->used || !vq->broken || vq->reported)
		return;
	vq->reported = true;
	device_complain(d, "the %s queue stops until the driver starts again: %s", name[index],
			vq->broken);
	if (index != VIRTIO_CZONE_VQ_REPORT)
		requests_fail(d, -EPROTO);
}

/* A ring in a file that was truncated would be SIGBUS for us. */
bool device_queue_mapped(struct device *d, unsigned int index)
{
	if (memory_intact(&d->memory))
		return true;
	virtqueue_break(device_vq(d, index), "the guest's memory file has shrunk");
	device_check_queue(d, index);
	return false;
}

static void drain(struct device *d, unsigned int index,
		  void (*take)(struct device *d, const struct virtqueue_buffer *b))
{
	struct virtqueue *vq = device_vq(d, index);
	uint64_t end = now_us() + US_PER_KICK;
	unsigned int left = BUFFERS_PER_KICK;
	int found;

	do {
		while ((found = virtqueue_pop(vq, &d->buffer)) > 0) {
			take(d, &d->buffer);
			if (!--left || now_us() >= end) {
				/* the others first: we kick ourselves for the rest */
				eventfd_write(d->vu.queue[index].kick_fd, 1);
				break;
			}
		}
	} while (!found && virtqueue_want_kicks(vq));
	virtqueue_notify(vq);
	device_check_queue(d, index);
}

static void queue_work(struct device *d, unsigned int index)
{
	if (!d->up)
		return;
	if (!device_queue_mapped(d, index))
		return;
	switch (index) {
	case VIRTIO_CZONE_VQ_EVENT:
		requests_send(d);
		break;
	case VIRTIO_CZONE_VQ_REPLY:
		drain(d, index, request_take_reply);
		break;
	case VIRTIO_CZONE_VQ_REPORT:
		drain(d, index, report_take);
		break;
	}
}

static void kicked(struct poll_source *source)
{
	struct queue_source *kick = (struct queue_source *)source;
	struct device *d = kick->device;
	eventfd_t value;

	pthread_mutex_lock(&d->lock);
	errno = 0;
	if (eventfd_read(source->fd, &value) && errno != EAGAIN && errno != EINTR) {
		/* something else that is always ready: we would do nothing but look at it */
		device_complain(d, "kicks of queue %u come from no eventfd", kick->index);
		poll_source_remove(source);
	}
	queue_work(d, kick->index);
	pthread_mutex_unlock(&d->lock);
}

/* ------------------------------------------------------- driver comes, goes */

static void driver_started(struct device *d)
{
	bool anew = !d->adopted;

	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++) {
		if (!vhost_user_queue_live(&d->vu, i))
			return;
		anew &= !d->vu.queue[i].base;
	}
	d->adopted = false;
	d->up = true;
	d->session++;
	log_later(CZONE_LOG_DEBUG, "VM %d: driver %s", (int)d->peer, anew ? "started" : "goes on");
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++)
		queue_work(d, i);
	pools_driver_started(d, anew);
	device_tell_ready(d);
	pthread_cond_broadcast(&d->changed);
}

/*
 * Nothing may be punched once the guest may run something else, so jobs end
 * here. If the driver goes on later (the VM was only paused), it has the
 * reports back in its queue, and we see them again.
 */
static void driver_stopped(struct device *d)
{
	if (!d->up)
		return;
	d->up = false;
	if (d->told_ready && !d->gone)
		device_tell(d, CZONE_EVENT_GUEST_LOST, CZONE_ID_VM, 0);
	d->told_ready = false;
	punch_cancel(&d->punch);
	requests_fail(d, d->gone ? -ESHUTDOWN : -ENOTCONN);
	pools_driver_stopped(d);
	pthread_cond_broadcast(&d->changed);
}

static struct device *device_of(struct vhost_user *vu)
{
	return (struct device *)((char *)vu - offsetof(struct device, vu));
}

static void queue_started(struct vhost_user *vu, unsigned int index)
{
	struct device *d = device_of(vu);

	if (poll_source_add(&d->kick[index].source, vu->queue[index].kick_fd))
		device_complain(d, "kicks of queue %u cannot be watched", index);
	driver_started(d);
}

static void queue_stopped(struct vhost_user *vu, unsigned int index)
{
	struct device *d = device_of(vu);

	driver_stopped(d);
	poll_source_remove(&d->kick[index].source);
}

static void memory_added(struct vhost_user *vu)
{
	pools_advance(device_of(vu));
}

static void memory_removed(struct vhost_user *vu)
{
	punch_settle(&device_of(vu)->punch);
}

static void private_memory(struct vhost_user *vu)
{
	struct device *d = device_of(vu);

	d->private_memory = true;
	pthread_cond_broadcast(&d->changed);
	device_complain(d, "its memory is private to it (share=off): nothing can be given back");
}

static void complain(struct vhost_user *vu, const char *what, uint32_t request)
{
	device_complain(device_of(vu), "vhost-user request %u: %s", request, what);
}

static const struct vhost_user_ops vhost_user_ops = {
	.queue_start = queue_started,
	.queue_stop = queue_stopped,
	.memory_added = memory_added,
	.memory_removed = memory_removed,
	.private_memory = private_memory,
	.complain = complain,
};

/* -------------------------------------------------------------- connection */

static void hang_up(struct device *d)
{
	int fd = d->connection.fd;

	vhost_user_reader_drop(&d->reader);
	poll_source_remove(&d->connection);
	if (fd >= 0)
		close(fd);
}

static void stop_listening(struct device *d)
{
	poll_source_remove(&d->listener);
	if (d->listen_fd >= 0)
		close(d->listen_fd);
	d->listen_fd = -1;
}

/* Let go of everything that the VMM gave us. In the poll thread. */
static void vmm_gone(struct device *d)
{
	bool told = d->gone || d->closing;

	d->gone = true;
	vhost_user_reset(&d->vu);
	memory_clear(&d->memory);
	if (!told)
		device_tell(d, CZONE_EVENT_VM_GONE, CZONE_ID_VM, 0);
	pthread_cond_broadcast(&d->changed);
}

static void connection_lost(struct device *d)
{
	hang_up(d);
	if (d->listen_fd < 0) {
		log_later(CZONE_LOG_DEBUG, "VM %d has gone", (int)d->peer);
		vmm_gone(d);
		return;
	}
	/* it never said a word: somebody only looked whether we are there */
	d->peer = 0;
	if (poll_source_add(&d->listener, d->listen_fd))
		device_complain(d, "the socket cannot be watched");
}

/* 1: there is one, and it is noted and out of the socket; 0: none now; or the end. */
static int next_message(struct device *d, struct vhost_user_message *m)
{
	struct takeover_message *taken = &d->takeover.file->dialogue.taken;
	int fd = d->connection.fd, got;

	if (!d->reader.have && !d->reader.skip && vhost_user_peek(fd, m)) {
		takeover_message_begin(&d->takeover, m);
		if (!vhost_user_take(fd, taken, sizeof(m->header) + m->header.size))
			return 1;
		while (m->n_fds)
			close(m->fd[--m->n_fds]);
		return -ENOTCONN;
	}
	/* no VMM sends one in pieces, or one that is too long */
	got = vhost_user_receive(fd, &d->reader, m);
	if (got > 0) {
		takeover_message_begin(&d->takeover, m);
		taken->header = m->header;
	}
	return got;
}

static void message_ready(struct poll_source *source)
{
	struct device *d = (struct device *)((char *)source - offsetof(struct device, connection));
	struct vhost_user_message message;

	pthread_mutex_lock(&d->lock);
	for (int i = 0; i < MESSAGES_PER_WAKE; i++) {
		int got = next_message(d, &message);

		if (got < 0)
			connection_lost(d);
		if (got <= 0)
			break;
		stop_listening(d);	/* this is the VMM, and there is never another one */
		device_answer(d, &message);
	}
	pthread_mutex_unlock(&d->lock);
}

static bool peer_allowed(int fd, pid_t *ret_pid)
{
	struct ucred cred;
	socklen_t size = sizeof(cred);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size))
		return false;
	*ret_pid = cred.pid;
	return cred.uid == geteuid() || !cred.uid || !geteuid();
}

/* One connection at a time; the others wait until it is clear who it is. */
static void connection_ready(struct poll_source *source)
{
	struct device *d = (struct device *)((char *)source - offsetof(struct device, listener));
	int fd = accept4(d->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0 && (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED))
		return;
	pthread_mutex_lock(&d->lock);
	if (fd < 0) {
		/* it stays ready; and a VMM that waits for us does so without limit */
		device_complain(d, "the VMM's connection is not accepted: %s", strerror(errno));
		stop_listening(d);
		vmm_gone(d);
	} else if (!peer_allowed(fd, &d->peer)) {
		device_complain(d, "connection of another user's process is refused");
		d->peer = 0;
		close(fd);
	} else if (poll_source_add(&d->connection, fd)) {
		device_complain(d, "the connection cannot be watched");
		close(fd);
	} else {
		poll_source_remove(&d->listener);
		d->takeover.file->vmm = d->peer;
	}
	pthread_mutex_unlock(&d->lock);
}

/* A socket file that nobody listens on any more, left by a process that was killed? */
static bool is_stale(const struct sockaddr_un *address)
{
	struct stat st;
	bool refused;
	int fd;

	if (lstat(address->sun_path, &st) || !S_ISSOCK(st.st_mode))
		return false;
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return false;
	refused = connect(fd, (const struct sockaddr *)address, sizeof(*address)) &&
		  errno == ECONNREFUSED;
	close(fd);
	return refused;
}

static int bind_to(int fd, const struct sockaddr_un *address)
{
	const struct sockaddr *any = (const struct sockaddr *)address;

	if (!bind(fd, any, sizeof(*address)))
		return 0;
	if (errno != EADDRINUSE)
		return -1;
	if (is_stale(address) && !unlink(address->sun_path))
		return bind(fd, any, sizeof(*address));
	errno = EADDRINUSE;
	return -1;
}

static int listen_on(const char *path, int *ret_fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd, error = 0;

	if (strlen(path) >= sizeof(address.sun_path))
		return czone_fail(-ENAMETOOLONG, "socket %s: longer than %zu characters", path,
				  sizeof(address.sun_path) - 1);
	strcpy(address.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return czone_fail(-errno, "no socket for the device: %s", strerror(errno));
	/* bind() takes the mode of the file from the socket */
	if (fchmod(fd, 0600) || bind_to(fd, &address) || listen(fd, 1)) {
		error = czone_fail(-errno, "socket %s: %s", path, strerror(errno));
		close(fd);
		return error;
	}
	*ret_fd = fd;
	return 0;
}

/* ------------------------------------------------------------ open, close */

void device_config_set(struct device *d, unsigned int backing_shift, unsigned int report_shift)
{
	struct virtio_czone_config config = {
		.magic = htole32(VIRTIO_CZONE_MAGIC),
		.version = htole16(VIRTIO_CZONE_VERSION),
		.report_shift = report_shift,
		.backing_shift = backing_shift,
		.max_ranges = htole32(DEVICE_MAX_RANGES),
	};

	memcpy(d->vu.config, &config, sizeof(config));
}

void device_free(struct device *d)
{
	takeover_close(&d->takeover);
	memory_destroy(&d->memory);
	pthread_cond_destroy(&d->changed);
	pthread_mutex_destroy(&d->lock);
	free(d->path);
	free(d);
}

int device_threads_get(void)
{
	int error = log_queue_get();

	if (error)
		return error;
	error = punch_get();
	if (error)
		goto no_punch;
	error = poll_thread_get();
	if (error)
		goto no_poll;
	return 0;
no_poll:
	punch_put();
no_punch:
	log_queue_put();
	return error;
}

void device_threads_put(void)
{
	poll_thread_put();
	punch_put();
	log_queue_put();
}

struct device *device_new(const char *socket_path)
{
	struct device *d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	pthread_mutex_init(&d->lock, NULL);
	cond_init(&d->changed);
	memory_init(&d->memory);
	vhost_user_init(&d->vu, &vhost_user_ops, &d->memory, 1ULL << VIRTIO_CZONE_F_ZEROES);
	device_config_set(d, 12, 12);
	punch_queue_init(&d->punch, &d->memory, device_free_job);
	d->listen_fd = -1;
	d->listener = (struct poll_source){ .fd = -1, .ready = connection_ready };
	d->connection = (struct poll_source){ .fd = -1, .ready = message_ready };
	for (unsigned int i = 0; i < VHOST_USER_QUEUES; i++)
		d->kick[i] = (struct queue_source){
			.source = { .fd = -1, .ready = kicked }, .device = d, .index = i,
		};
	d->takeover.fd = -1;
	d->path = strdup(socket_path);
	if (!d->path) {
		device_free(d);
		return NULL;
	}
	return d;
}

int device_open(const char *socket_path, struct device **ret_device)
{
	struct device *d = device_new(socket_path);
	int fd, error;

	if (!d)
		return czone_fail(-ENOMEM, "no memory for a device");
	error = takeover_new(&d->takeover, socket_path);
	if (error) {
		czone_fail(error, "no memfd for the state of the device: %s", strerror(-error));
		goto fail;
	}
	error = device_threads_get();
	if (error) {
		czone_fail(error, "the threads of the device do not start: %s", strerror(-error));
		goto fail;
	}
	error = listen_on(socket_path, &fd);
	if (error)
		goto fail_threads;
	d->listen_fd = fd;
	error = poll_source_add(&d->listener, fd);
	if (error) {
		czone_fail(error, "socket %s cannot be watched: %s", socket_path, strerror(-error));
		unlink(socket_path);
		close(fd);
		goto fail_threads;
	}
	*ret_device = d;
	return 0;
fail_threads:
	device_threads_put();
fail:
	device_free(d);
	return error;
}

static void detach(void *argument)
{
	struct device *d = argument;

	pthread_mutex_lock(&d->lock);
	d->closing = true;
	stop_listening(d);
	hang_up(d);
	vmm_gone(d);
	pthread_mutex_unlock(&d->lock);
}

void device_shut(struct device *d)
{
	unlink(d->path);
	poll_thread_call(detach, d);
	d->takeover.file->server_start = 0;	/* whoever wants to may go on */
}

void device_close(struct device *d)
{
	if (!d)
		return;
	device_shut(d);
	pthread_mutex_lock(&d->lock);
	while (d->users)
		pthread_cond_wait(&d->changed, &d->lock);
	pthread_mutex_unlock(&d->lock);
	punch_queue_close(&d->punch);
	device_threads_put();
	device_free(d);
}

/* ------------------------------------------------------------------- calls */

void device_enter(struct device *d)
{
	pthread_mutex_lock(&d->lock);
	d->users++;
}

void device_leave(struct device *d)
{
	d->users--;
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

static struct pool *pool_at(struct device *d, uint64_t start)
{
	for (unsigned int i = 0; i < d->n_pools; i++)
		if (d->pool[i].start == start)
			return &d->pool[i];
	return NULL;
}

int device_add_pool(struct device *d, uint64_t start, uint64_t size, unsigned int backing_shift)
{
	struct virtio_czone_config config;
	struct pool *known;
	int error = -EINVAL;

	if (backing_shift < 12 || backing_shift > 30)
		return czone_fail(-EINVAL, "backing_shift %u is not between 12 and 30",
				  backing_shift);
	device_enter(d);
	known = pool_at(d, start);
	if (known && known->size == size) {
		if (known->state == POOL_REFUSED)
			known->state = POOL_WAITING;
		pools_advance(d);
		device_leave(d);
		return 0;
	}
	if (!(start % CZONE_BLOCK_SIZE) && !(size % CZONE_BLOCK_SIZE))
		error = memory_add_pool(&d->memory, start, size);
	if (!error) {
		d->pool[d->n_pools++] = (struct pool){ .start = start, .size = size };
		memcpy(&config, d->vu.config, sizeof(config));
		if (backing_shift > config.backing_shift)
			device_config_set(d, backing_shift, config.report_shift);
		device_save(d, false);
		pools_advance(d);
	}
	device_leave(d);
	if (error)
		czone_fail(error, "pool %#llx+%#llx: %s", (unsigned long long)start,
			   (unsigned long long)size, strerror(-error));
	return error;
}

int device_set_report_shift(struct device *d, unsigned int shift)
{
	struct virtio_czone_config config;

	if (shift < 12 || shift > CZONE_BLOCK_SHIFT)
		return czone_fail(-EINVAL, "report_shift %u is not between 12 and %d: pages of the host that are larger than a zone's blocks cannot be given back",
				  shift, CZONE_BLOCK_SHIFT);
	pthread_mutex_lock(&d->lock);
	memcpy(&config, d->vu.config, sizeof(config));
	device_config_set(d, config.backing_shift, shift);
	pthread_mutex_unlock(&d->lock);
	return 0;
}

/* 1 when all is well, 0 to wait on, or what is wrong for good. */
static int ready(struct device *d)
{
	if (d->gone || d->closing)
		return -ESHUTDOWN;
	if (d->private_memory)
		return -EOPNOTSUPP;
	if (d->n_pools && d->pool[0].state == POOL_REFUSED)
		return d->pool[0].error;
	if (!d->up)
		return 0;
	for (unsigned int i = 0; i < d->n_pools; i++)
		if (d->pool[i].state != POOL_TAKEN && d->pool[i].state != POOL_REFUSED)
			return 0;
	return 1;
}

void device_tell_ready(struct device *d)
{
	if (d->told_ready || ready(d) != 1)
		return;
	d->told_ready = true;
	device_tell(d, CZONE_EVENT_GUEST_READY, CZONE_ID_VM, 0);
}

void device_set_news(struct device *d, device_news_fn *fn, void *userdata)
{
	pthread_mutex_lock(&d->lock);
	d->news = fn;
	d->news_userdata = userdata;
	pthread_mutex_unlock(&d->lock);
}

void device_wake(struct device *d)
{
	pthread_mutex_lock(&d->lock);
	pthread_cond_broadcast(&d->changed);
	pthread_mutex_unlock(&d->lock);
}

static const char *what_is_missing(struct device *d)
{
	if (!d->peer)
		return "the VMM has not connected";
	if (!d->up)
		return "the guest's driver has not started";
	return "the guest has not taken its pool";
}

int device_wait_ready(struct device *d, uint32_t timeout_ms)
{
	struct timespec until = at_ms(now_ms() + timeout_ms);
	const char *missing;
	bool private_memory;
	int state, timeout = 0;

	device_enter(d);
	while (!(state = ready(d)) && !timeout && !czone_cancelled())
		timeout = pthread_cond_timedwait(&d->changed, &d->lock, &until);
	missing = what_is_missing(d);
	private_memory = d->private_memory;
	device_leave(d);
	if (state > 0)
		return 0;
	if (!state && !timeout)
		return czone_fail(-ECANCELED, "no longer waited for");
	if (!state)
		return czone_fail(-ETIMEDOUT, "after %u ms %s", timeout_ms, missing);
	if (state == -ESHUTDOWN)
		return czone_fail(state, "the VM has gone");
	if (private_memory)
		return czone_fail(state, "the VM's memory is private to it (share=off)");
	if (state == -EOPNOTSUPP)
		return czone_fail(state, "the pool is on host pages (hugetlb) that are larger than what the guest was told it may give back, or the guest's driver takes none");
	return czone_fail(state, "the guest does not take its pool: %s", strerror(-state));
}

static int pool_state(struct device *d, uint64_t start)
{
	const struct pool *p = pool_at(d, start);

	if (d->gone || d->closing)
		return -ESHUTDOWN;
	if (!p)
		return -ENOENT;
	return p->state == POOL_REFUSED ? p->error : p->state == POOL_TAKEN;
}

int device_pool_state(struct device *d, uint64_t start)
{
	int state;

	pthread_mutex_lock(&d->lock);
	state = pool_state(d, start);
	pthread_mutex_unlock(&d->lock);
	return state;
}

int device_wait_pool(struct device *d, uint64_t start, uint32_t timeout_ms)
{
	struct timespec until = at_ms(now_ms() + timeout_ms);
	int state, timeout = 0;
	bool up;

	device_enter(d);
	while (!(state = pool_state(d, start)) && !timeout && !czone_cancelled())
		timeout = pthread_cond_timedwait(&d->changed, &d->lock, &until);
	up = d->up;
	device_leave(d);
	if (state > 0)
		return 0;
	if (!state && !timeout)
		return czone_fail(-ECANCELED, "no longer waited for");
	if (!state)
		return czone_fail(-ETIMEDOUT, "the memory is there, but %s; it may take it later",
				  up ? "the guest has not taken it yet" : "the guest's driver is not");
	if (state == -ESHUTDOWN)
		return czone_fail(state, "the VM has gone");
	return czone_fail(state, "the guest does not take the memory: %s", strerror(-state));
}

static int asked(const struct device_request *request, int error, bool replied, uint32_t timeout_ms)
{
	static const char *const name[] = {
		"ping", "add-region", "create", "resize", "attach", "destroy", "reclaim", "stats",
		"next", "extents", "set-idle",
	};
	const size_t names = sizeof(name) / sizeof(name[0]);
	const char *op = request->op < names ? name[request->op] : "request";

	if (replied)
		return czone_fail(error, "%s of zone %u: the guest says: %s", op, request->zone,
				  strerror(-error));
	switch (error) {
	case -ETIMEDOUT:
		return czone_fail(error, "%s of zone %u: no answer from the guest in %u ms", op,
				  request->zone, timeout_ms);
	case -ECANCELED:
		return czone_fail(error, "%s of zone %u: no longer waited for", op, request->zone);
	case -ENOTCONN:
		return czone_fail(error, "%s of zone %u: the guest's driver is not there", op,
				  request->zone);
	case -ESHUTDOWN:
		return czone_fail(error, "%s of zone %u: the VM has gone", op, request->zone);
	default:
		return czone_fail(error, "%s of zone %u: the guest breaks the protocol", op,
				  request->zone);
	}
}

int device_ask(struct device *d, const struct device_request *request, uint32_t timeout_ms,
	       struct device_reply *ret_reply)
{
	struct request r = { .ask = *request };
	struct timespec until;
	int error, timeout = 0;

	if (request->path && strlen(request->path) > VIRTIO_CZONE_PATH_MAX)
		return czone_fail(-ENAMETOOLONG, "path is longer than %d bytes",
				  VIRTIO_CZONE_PATH_MAX);
	device_enter(d);
	error = request_start(d, &r, timeout_ms);
	if (!error) {
		until = at_ms(r.deadline + ANSWER_GRACE_MS);
		while (!r.done && !timeout && !czone_cancelled())
			timeout = pthread_cond_timedwait(&d->changed, &d->lock, &until);
		if (!r.done)
			request_forget(d, &r);
		error = r.done ? r.error : timeout ? -ETIMEDOUT : -ECANCELED;
	}
	device_leave(d);
	if (ret_reply && r.replied)
		*ret_reply = r.reply;
	return error ? asked(request, error, r.replied, timeout_ms) : 0;
}

bool device_plausible(struct device *d, const struct device_range *range, size_t n)
{
	uint64_t left = memory_pools_size(&d->memory);

	for (size_t i = 0; i < n; i++) {
		if (!range[i].size || range[i].size > left ||
		    range[i].start % CZONE_BLOCK_SIZE || range[i].size % CZONE_BLOCK_SIZE ||
		    !memory_in_pool(&d->memory, range[i].start, range[i].size))
			return false;
		left -= range[i].size;
	}
	return true;
}

static int range_resident(struct device *d, struct device_range range, uint64_t *bytes)
{
	while (range.size) {
		uint64_t offset, here, resident;
		struct memory_file *file = memory_file_at(&d->memory, range.start, &offset, &here);
		int error;

		if (!file)
			return -EFAULT;
		if (here > range.size)
			here = range.size;
		error = memory_file_resident(file, offset, here, &resident);
		memory_file_put(file);
		if (error)
			return error;
		*bytes += resident;
		range.start += here;
		range.size -= here;
	}
	return 0;
}

int device_resident(struct device *d, const struct device_range *range, size_t n,
		    uint64_t *ret_bytes)
{
	uint64_t bytes = 0;
	int error = 0;

	device_enter(d);
	if (d->gone || d->closing)
		error = -ESHUTDOWN;
	else if (!d->memory.n_regions)
		error = -ENOTCONN;
	pthread_mutex_unlock(&d->lock);
	for (size_t i = 0; i < n && !error; i++)
		error = range_resident(d, range[i], &bytes);
	pthread_mutex_lock(&d->lock);
	device_leave(d);
	if (error)
		return czone_fail(error, "host memory behind the VM's cannot be counted: %s",
				  strerror(-error));
	*ret_bytes = bytes;
	return 0;
}

int device_allocated(struct device *d, uint64_t *ret_pool, uint64_t *ret_boot)
{
	int error;

	device_enter(d);
	error = d->gone || d->closing ? -ESHUTDOWN
				      : memory_allocated(&d->memory, ret_pool, ret_boot);
	device_leave(d);
	if (error)
		return czone_fail(error, "host memory of the VM cannot be counted: %s",
				  strerror(-error));
	return 0;
}

uint64_t device_returned(struct device *d)
{
	return atomic_load(&d->returned);
}

pid_t device_peer(struct device *d)
{
	pid_t pid;

	pthread_mutex_lock(&d->lock);
	pid = d->peer;
	pthread_mutex_unlock(&d->lock);
	return pid;
}
