/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Telling the program what happens to a VM and its zones. */
#include "handle.h"
#include "options.h"
#include <errno.h>
#include <stdlib.h>

/* A program that does not dispatch, or a guest that tells too much, gets no further. */
#define EVENTS_MAX 1024

struct event_notice {
	struct notice notice;
	struct czone_event event;
};

static void discard(struct notice *notice)
{
	free(notice);
}

static void deliver(struct notice *notice, struct czone_vm *vm)
{
	struct event_notice *e = (struct event_notice *)notice;
	czone_event_fn *fn;
	void *userdata;

	pthread_mutex_lock(&vm->lock);
	fn = vm->event_fn;
	userdata = vm->event_userdata;
	vm->events--;
	pthread_mutex_unlock(&vm->lock);
	if (fn)
		fn(vm, &e->event, userdata);
	free(e);
}

void czone_event(struct czone_vm *vm, enum czone_event_kind kind, uint32_t zone, uint64_t bytes,
		 int error)
{
	struct event_notice *e = NULL;
	bool wanted;

	pthread_mutex_lock(&vm->lock);
	wanted = vm->event_fn;
	if (wanted) {
		if (vm->events < EVENTS_MAX)
			e = calloc(1, sizeof(*e));
		if (e) {
			e->event = (struct czone_event) {
				.struct_size = sizeof(e->event),
				.kind = kind, .zone = zone, .bytes = bytes, .error = error,
				.lost = vm->events_lost,
			};
			vm->events++;
			vm->events_lost = 0;
		} else {
			vm->events_lost++;
		}
	}
	pthread_mutex_unlock(&vm->lock);
	if (e) {
		e->notice.deliver = deliver;
		e->notice.discard = discard;
		inbox_post(&vm->inbox, &e->notice);
	}
}

int czone_set_event_fn(czone_vm *vm, czone_event_fn *fn, void *userdata)
{
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	pthread_mutex_lock(&vm->lock);
	vm->event_fn = fn;
	vm->event_userdata = userdata;
	vm->events_lost = 0;
	pthread_mutex_unlock(&vm->lock);
	return 0;
}
