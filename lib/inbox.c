/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "inbox.h"
#include "handle.h"
#include "thread.h"
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

void inbox_init(struct inbox *inbox)
{
	*inbox = (struct inbox){ .fd = -1 };
	inbox->end = &inbox->first;
	pthread_mutex_init(&inbox->lock, NULL);
	cond_init(&inbox->changed);
}

static struct notice *take(struct inbox *inbox)
{
	struct notice *notice = inbox->first;

	if (!notice)
		return NULL;
	inbox->first = notice->next;
	if (!inbox->first)
		inbox->end = &inbox->first;
	inbox->count--;
	return notice;
}

static void end_thread(struct inbox *inbox)
{
	pthread_t thread;

	pthread_mutex_lock(&inbox->lock);
	if (!inbox->threaded) {
		pthread_mutex_unlock(&inbox->lock);
		return;
	}
	inbox->threaded = false;
	inbox->thread_number++;
	thread = inbox->thread;
	pthread_cond_broadcast(&inbox->changed);
	pthread_mutex_unlock(&inbox->lock);
	if (pthread_equal(thread, pthread_self()))
		pthread_detach(thread);		/* a callback of its own: it ends on its return */
	else
		pthread_join(thread, NULL);
}

void inbox_destroy(struct inbox *inbox)
{
	struct notice *notice;

	end_thread(inbox);
	while ((notice = take(inbox)))
		notice->discard(notice);
	if (inbox->fd >= 0)
		close(inbox->fd);
	pthread_cond_destroy(&inbox->changed);
	pthread_mutex_destroy(&inbox->lock);
}

void inbox_post(struct inbox *inbox, struct notice *notice)
{
	notice->next = NULL;
	pthread_mutex_lock(&inbox->lock);
	*inbox->end = notice;
	inbox->end = &notice->next;
	inbox->count++;
	if (inbox->fd >= 0)
		eventfd_write(inbox->fd, 1);
	pthread_cond_signal(&inbox->changed);
	pthread_mutex_unlock(&inbox->lock);
}

int czone_fd(czone_vm *vm)
{
	struct inbox *inbox;
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	inbox = &vm->inbox;
	pthread_mutex_lock(&inbox->lock);
	if (inbox->fd < 0) {
		inbox->fd = eventfd(inbox->count, EFD_CLOEXEC | EFD_NONBLOCK);
		if (inbox->fd < 0)
			r = czone_fail(-errno, "no eventfd: %s", czone_strerror(-errno));
	}
	if (r == 0)
		r = inbox->fd;
	pthread_mutex_unlock(&inbox->lock);
	return r;
}

/* Tell what there is now, not what comes meanwhile: the caller has other things to do. */
static int deliver(struct czone_vm *vm)
{
	struct inbox *inbox = &vm->inbox;
	struct notice *notice;
	size_t most;
	eventfd_t value;
	int told = 0;

	pthread_mutex_lock(&inbox->lock);
	most = inbox->count;
	if (inbox->fd >= 0)
		eventfd_read(inbox->fd, &value);
	while (most-- && (notice = take(inbox))) {
		pthread_mutex_unlock(&inbox->lock);
		notice->deliver(notice, vm);
		told++;
		pthread_mutex_lock(&inbox->lock);
	}
	if (inbox->count && inbox->fd >= 0)
		eventfd_write(inbox->fd, 1);
	pthread_mutex_unlock(&inbox->lock);
	return told;
}

int czone_dispatch(czone_vm *vm, uint32_t timeout_ms)
{
	struct timespec until;
	int told, timeout = 0, r = czone_vm_check(vm);

	if (r < 0)
		return r;
	czone_vm_ref(vm);	/* a callback may give up the last one */
	if (timeout_ms) {
		until = at_ms(now_ms() + timeout_ms);
		pthread_mutex_lock(&vm->inbox.lock);
		while (!vm->inbox.count && !timeout)
			timeout = pthread_cond_timedwait(&vm->inbox.changed, &vm->inbox.lock, &until);
		pthread_mutex_unlock(&vm->inbox.lock);
	}
	told = deliver(vm);
	czone_vm_unref(vm);
	return told;
}

/*
 * Has no reference while it waits, so that the last one can go. Whoever lets that
 * go waits for this thread, unless it was a callback here.
 */
static void *run(void *argument)
{
	struct czone_vm *vm = argument;
	struct inbox *inbox = &vm->inbox;
	unsigned int number;
	bool end;

	pthread_mutex_lock(&inbox->lock);
	number = inbox->thread_number;
	pthread_mutex_unlock(&inbox->lock);
	do {
		pthread_mutex_lock(&inbox->lock);
		while (!inbox->count && inbox->thread_number == number)
			pthread_cond_wait(&inbox->changed, &inbox->lock);
		end = inbox->thread_number != number || !czone_vm_ref_if_alive(vm);
		pthread_mutex_unlock(&inbox->lock);
		if (end)
			break;
		deliver(vm);
		pthread_mutex_lock(&inbox->lock);
		end = inbox->thread_number != number;
		pthread_mutex_unlock(&inbox->lock);
	} while (!czone_vm_unref_tell(vm) && !end);
	return NULL;
}

int czone_dispatch_in_thread(czone_vm *vm, int on)
{
	struct inbox *inbox;
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	inbox = &vm->inbox;
	if (!on) {
		end_thread(inbox);
		return 0;
	}
	pthread_mutex_lock(&inbox->lock);
	if (!inbox->threaded) {
		r = thread_start(&inbox->thread, "czone-dispatch", run, vm);
		inbox->threaded = r == 0;
	}
	pthread_mutex_unlock(&inbox->lock);
	return r < 0 ? czone_fail(r, "no thread to dispatch in: %s", czone_strerror(r)) : 0;
}
