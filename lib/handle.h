/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Handles on VMs and zones, for the public calls. */
#ifndef LIB_HANDLE_H
#define LIB_HANDLE_H

#include "driver.h"

/* With one reference, and without a driver. NULL: no memory. */
struct czone_vm *czone_vm_new(void);

/* One that never got a driver. */
void czone_vm_discard(struct czone_vm *vm);

/* A reference, unless the last one has gone. */
bool czone_vm_ref_if_alive(struct czone_vm *vm);

/* czone_vm_unref(); was it the last? */
bool czone_vm_unref_tell(struct czone_vm *vm);

/* async.c: no operation is left, but a worker may be on its way out. */
void czone_async_end(struct czone_vm *vm);

/* 0, or -EINVAL with a detail for NULL. */
int czone_vm_check(const struct czone_vm *vm);

/* 0, -EINVAL for NULL, or -ENOENT once its zone has been destroyed. */
int czone_zone_check(const struct czone *zone);

/* 0, or -EINVAL: the same everywhere, so that a path works on all sides if it works on one. */
int czone_cgroup_path_check(const char *path);

/* A reference on the handle of a zone that exists: there is one handle for each. */
int czone_handle_get(struct czone_vm *vm, uint32_t id, struct czone **ret_zone);

/* The zone of this new id is another than one of that id before. */
void czone_handle_forget(struct czone_vm *vm, uint32_t id);

/* The zone has gone, and so have all uses of its handle. */
void czone_handle_gone(struct czone *zone);

/* Pass on the result of a driver's call: -ENOENT means that the zone has gone. */
int czone_handle_result(struct czone *zone, int result);

/* Milliseconds of CLOCK_MONOTONIC. */
uint64_t czone_now_ms(void);

static inline uint32_t czone_timeout(uint32_t timeout_ms)
{
	return timeout_ms ? timeout_ms : CZONE_TIMEOUT_DEFAULT_MS;
}

#endif /* LIB_HANDLE_H */
