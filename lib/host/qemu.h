/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What a VM needs of QEMU that libvirt's XML has no words for. */
#ifndef LIB_HOST_QEMU_H
#define LIB_HOST_QEMU_H

#include "memory.h"

#include <czone.h>

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

#endif /* LIB_HOST_QEMU_H */
