/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a VM is to the host half: the device that this process serves, and the
 * libvirt domain that it belongs to. driver.c knows the device, vm.c the domain.
 */
#ifndef LIB_HOST_HOST_H
#define LIB_HOST_HOST_H

#include "device.h"

struct czone_vm;
struct host_domain;

struct host_vm {
	struct czone_vm *vm;
	struct device *device;
	struct host_domain *domain;
};

/* Stop the VM; 0 also when it has gone already. */
int host_vm_stop(struct host_vm *host);

/* Give the guest so much more pool: a multiple of 128 MiB. */
int host_vm_grow(struct host_vm *host, uint64_t bytes, uint32_t timeout_ms);

/* Serve it no longer, and let it run. */
int host_vm_detach(struct host_vm *host);

/* Stop it (unless it was let go), close the device, free everything. NULL is fine. */
void host_vm_close(struct host_vm *host);

#endif /* LIB_HOST_HOST_H */
