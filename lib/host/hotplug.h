/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory devices that a VM has for its pool, and adding one while it runs. */
#ifndef LIB_HOST_HOTPLUG_H
#define LIB_HOST_HOTPLUG_H

#include "device.h"

#include <libvirt/libvirt.h>

/* Where QEMU has put the pool that the VM was started with. */
int hotplug_first_pool(virDomainPtr domain, uint32_t timeout_ms, uint64_t *ret_start,
		       uint64_t *ret_size);

/*
 * Add a memory device like the first pool's. One that QEMU has, but the guest has
 * not taken, because an earlier call failed or its process died, is used again if
 * it is as large. -ENOSPC: no slot or no room is left for it; nothing has changed.
 */
int hotplug_pool(virDomainPtr domain, struct device *device, uint64_t size, uint32_t timeout_ms,
		 uint64_t *ret_start);

#endif /* LIB_HOST_HOTPLUG_H */
