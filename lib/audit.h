/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The quota of a VM's zones, for the calls that make them. */
#ifndef LIB_AUDIT_H
#define LIB_AUDIT_H

#include "driver.h"

/* May a zone have this size, and all together so much more than now? 0, -EDQUOT, or what the guest brings. */
int czone_quota_check(struct czone_vm *vm, uint64_t size, uint64_t more, const char *what);

/* May this zone get this size? */
int czone_quota_check_resize(struct czone_vm *vm, uint32_t id, uint64_t size);

/* stats.c: all ranges of a zone, however many; free() them. Their number or -errno. */
int czone_all_extents(struct czone_vm *vm, uint32_t id, struct czone_extent **ret_extents);

#endif /* LIB_AUDIT_H */
