/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "handle.h"
#include <errno.h>
#include <stdlib.h>
#include <time.h>

struct czone_vm *czone_vm_new(void)
{
	struct czone_vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->refs = 1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_cond_init(&vm->worker_gone, NULL);
	inbox_init(&vm->inbox);
	vm->waiting_end = &vm->waiting;
	vm->target = CZONE_UNKNOWN;
	vm->stray = CZONE_UNKNOWN;
	return vm;
}

void czone_vm_discard(struct czone_vm *vm)
{
	inbox_destroy(&vm->inbox);
	pthread_cond_destroy(&vm->worker_gone);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
}

int czone_vm_check(const struct czone_vm *vm)
{
	return vm ? 0 : czone_fail(-EINVAL, "vm is NULL");
}

int czone_zone_check(const struct czone *zone)
{
	if (!zone)
		return czone_fail(-EINVAL, "zone is NULL");
	if (zone->gone)
		return czone_fail(-ENOENT, "zone %u has been destroyed", zone->id);
	return 0;
}

/*
 * One handle for each zone: when a zone is destroyed by one of its users, all
 * of them know, and nobody reaches the next zone of the same id by mistake.
 */
int czone_handle_get(struct czone_vm *vm, uint32_t id, struct czone **ret_zone)
{
	struct czone *zone;

	pthread_mutex_lock(&vm->lock);
	for (zone = vm->zones; zone; zone = zone->next) {
		if (zone->id == id)
			break;
	}
	if (zone) {
		zone->refs++;
	} else {
		zone = calloc(1, sizeof(*zone));
		if (zone) {
			zone->vm = czone_vm_ref(vm);
			zone->refs = 1;
			zone->id = id;
			zone->next = vm->zones;
			vm->zones = zone;
		}
	}
	pthread_mutex_unlock(&vm->lock);
	if (!zone)
		return czone_fail(-ENOMEM, "no memory for a handle on zone %u", id);
	*ret_zone = zone;
	return 0;
}

/* Under vm->lock. */
static void unlink_handle(struct czone *zone)
{
	struct czone **link = &zone->vm->zones;

	while (*link && *link != zone)
		link = &(*link)->next;
	if (*link)
		*link = zone->next;
	zone->gone = true;
}

void czone_handle_gone(struct czone *zone)
{
	pthread_mutex_lock(&zone->vm->lock);
	unlink_handle(zone);
	pthread_mutex_unlock(&zone->vm->lock);
}

void czone_handle_forget(struct czone_vm *vm, uint32_t id)
{
	struct czone *zone;

	pthread_mutex_lock(&vm->lock);
	for (zone = vm->zones; zone && zone->id != id; zone = zone->next)
		;
	if (zone)
		unlink_handle(zone);
	pthread_mutex_unlock(&vm->lock);
}

int czone_handle_result(struct czone *zone, int result)
{
	if (result == -ENOENT)
		czone_handle_gone(zone);
	return result;
}

uint32_t czone_id(const czone *zone)
{
	return zone ? zone->id : 0;
}

czone *czone_ref(czone *zone)
{
	if (zone)
		zone->refs++;
	return zone;
}

czone *czone_unref(czone *zone)
{
	struct czone_vm *vm;
	bool last;

	if (!zone)
		return NULL;
	vm = zone->vm;
	/* under the lock: nobody may find a handle on its way out */
	pthread_mutex_lock(&vm->lock);
	last = --zone->refs == 0;
	if (last)
		unlink_handle(zone);
	pthread_mutex_unlock(&vm->lock);
	if (last) {
		free(zone);
		czone_vm_unref(vm);
	}
	return NULL;
}

czone_vm *czone_vm_ref(czone_vm *vm)
{
	if (vm)
		vm->refs++;
	return vm;
}

bool czone_vm_ref_if_alive(struct czone_vm *vm)
{
	unsigned int refs = vm->refs;

	while (refs && !atomic_compare_exchange_weak(&vm->refs, &refs, refs + 1))
		;
	return refs;
}

bool czone_vm_unref_tell(struct czone_vm *vm)
{
	if (--vm->refs > 0)
		return false;
	czone_async_end(vm);
	vm->driver->close(vm);
	czone_vm_discard(vm);
	return true;
}

czone_vm *czone_vm_unref(czone_vm *vm)
{
	if (vm)
		czone_vm_unref_tell(vm);
	return NULL;
}

uint64_t czone_now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}
