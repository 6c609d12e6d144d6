/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The memory that zones are made of. */
#include "handle.h"
#include <errno.h>
#include <inttypes.h>

int czone_pool_grow(czone_vm *vm, uint64_t bytes, uint32_t timeout_ms)
{
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	if (!bytes || bytes % CZONE_POOL_STEP)
		return czone_fail(-EINVAL, "grow: %" PRIu64 " is not a multiple of 128 MiB", bytes);
	if (!vm->driver->grow)
		return czone_fail(-EOPNOTSUPP, "only the host of a VM can make its pool larger");
	return vm->driver->grow(vm, bytes, czone_timeout(timeout_ms));
}
