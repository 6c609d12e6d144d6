/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What this machine has for a VM. */
#ifndef LIB_HOST_MACHINE_H
#define LIB_HOST_MACHINE_H

#include <czone.h>
#include <stdbool.h>

/* What a VM gets that names no other size. */
#define MACHINE_BOOT_BYTES ((uint64_t)256 << 20)
#define MACHINE_POOL_BYTES ((uint64_t)4 << 30)

bool machine_has_kvm(void);

/* $CZONE_QEMU, or qemu-system-x86_64 in PATH; to be freed. NULL: there is none. */
char *machine_find_emulator(void);

/*
 * log2 of the pages that the host takes for a first touch of the pool, and of
 * the least that it gives back of it.
 */
int machine_pool_shifts(const struct czone_vm_opts *o, unsigned int *ret_backing,
			unsigned int *ret_report);

#endif /* LIB_HOST_MACHINE_H */
