/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a VM needs of QEMU that libvirt has no words for. */
#ifndef LIB_HOST_QEMU_H
#define LIB_HOST_QEMU_H

#include "memory.h"

#include "device.h"

#include <czone.h>
#include <libvirt/libvirt.h>

/* QEMU's id of the pool's memory device; those that are added count on. */
#define QEMU_POOL_NAME "czone-pool"
#define QEMU_POOL_ID QEMU_POOL_NAME "0"

/* Of a pool's mapping: without it the host uses no huge pages. */
#define QEMU_POOL_ALIGN (2 << 20)

/* As many pools as the device can have. */
#define QEMU_MEMORY_SLOTS MEMORY_POOLS_MAX

/* How the argument begins that says where the device's socket is. */
#define QEMU_CHARDEV "socket,id=czone,path="

#define QEMU_ARGS 8

/* Arguments for the pool and the device, each to be freed, with a NULL at the end; 0 or -ENOMEM. */
int qemu_args(const struct czone_vm_opts *opts, const char *socket, const char *bus, int slot,
	      char *args[QEMU_ARGS + 1]);

/* Where QEMU has put the pool that the VM was started with. */
int qemu_first_pool(virDomainPtr domain, uint32_t timeout_ms, uint64_t *ret_start,
		       uint64_t *ret_size);

/*
 * Add a memory device like the first pool's. One that QEMU has, but the guest has
 * not taken, because an earlier call failed or its process died, is used again if
 * it is as large. -ENOSPC: no slot or no room is left for it; nothing has changed.
 */
int qemu_add_pool(virDomainPtr domain, struct device *device, uint64_t size, uint32_t timeout_ms,
		 uint64_t *ret_start);

/* Let QEMU hold a descriptor of ours, for as long as it lives. */
int qemu_give_fd(virDomainPtr domain, const char *name, int fd, uint32_t timeout_ms);

#endif /* LIB_HOST_QEMU_H */
