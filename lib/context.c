/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening a kernel that has zones. */
#include "handle.h"
#include "options.h"
#include <errno.h>
#include <string.h>

#define POOL_STEP ((uint64_t)128 << 20)		/* memory hotplug's unit on x86-64 */

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define STRINGIFY(x) #x
#define STRING(x) STRINGIFY(x)

const char *czone_version(void)
{
	return STRING(CZONE_VERSION_MAJOR) "." STRING(CZONE_VERSION_MINOR) "."
	       STRING(CZONE_VERSION_PATCH);
}

static const struct {
	const char *uri;
	int (*open)(struct czone_vm *vm);
} sides[] = {
	{ "guest:///", czone_guest_open },	/* the default */
	{ "test:///default", czone_test_open },
};

int czone_open(const char *uri, czone_vm **ret_vm)
{
	struct czone_vm *vm;
	size_t side = 0;
	int r;

	if (!ret_vm)
		return czone_fail(-EINVAL, "ret_vm is NULL");
	while (uri && side < ARRAY_SIZE(sides) && strcmp(uri, sides[side].uri))
		side++;
	if (side == ARRAY_SIZE(sides))
		return czone_fail(-EINVAL, "unknown URI \"%s\": there are \"%s\" and \"%s\"", uri,
				  sides[0].uri, sides[1].uri);
	vm = czone_vm_new();
	if (!vm)
		return czone_fail(-ENOMEM, "no memory for a handle");
	r = sides[side].open(vm);
	if (r < 0) {
		czone_vm_discard(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

static int complete_vm_opts(struct czone_vm_opts *opts)
{
	if (!opts->state_dir || !*opts->state_dir)
		return czone_fail(-EINVAL, "vm options: state_dir is missing");
	if (!opts->kernel || !*opts->kernel)
		return czone_fail(-EINVAL, "vm options: kernel is missing");
	if (opts->pool_bytes % POOL_STEP)
		return czone_fail(-EINVAL,
				  "vm options: pool_bytes is %llu, which is no multiple of 128 MiB",
				  (unsigned long long)opts->pool_bytes);
	switch (opts->pool_backing) {
	case CZONE_POOL_MEMFD:
		break;
	case CZONE_POOL_FILE:
		if (!opts->pool_dir || !*opts->pool_dir)
			return czone_fail(-EINVAL,
					  "vm options: pool_backing is a file, but pool_dir is missing");
		break;
	default:
		return czone_fail(-EINVAL, "vm options: pool_backing is %d, which is unknown",
				  (int)opts->pool_backing);
	}
	if (opts->kvm > CZONE_KVM_OFF)
		return czone_fail(-EINVAL, "vm options: kvm is %u, which is unknown", opts->kvm);
	switch (opts->event_loop) {
	case CZONE_EVENT_LOOP_OWN:
	case CZONE_EVENT_LOOP_CALLER:
		break;
	default:
		return czone_fail(-EINVAL, "vm options: event_loop is %d, which is unknown",
				  (int)opts->event_loop);
	}
	if (!opts->boot_bytes)
		opts->boot_bytes = (uint64_t)256 << 20;
	if (!opts->pool_bytes)
		opts->pool_bytes = (uint64_t)4 << 30;
	if (!opts->vcpus)
		opts->vcpus = 1;
	if (!opts->timeout_ms)
		opts->timeout_ms = 120000;
	return 0;
}

int czone_vm_start(const struct czone_vm_opts *opts, czone_vm **ret_vm)
{
	struct czone_vm_opts complete;
	struct czone_vm *vm;
	int r;

	if (!ret_vm)
		return czone_fail(-EINVAL, "ret_vm is NULL");
	r = czone_options_in(&complete, sizeof(complete), opts,
			     czone_size_upto(struct czone_vm_opts, event_loop), "vm options");
	if (r == 0)
		r = complete_vm_opts(&complete);
	if (r < 0)
		return r;
	vm = czone_vm_new();
	if (!vm)
		return czone_fail(-ENOMEM, "no memory for a handle");
	r = czone_host_start(vm, &complete);
	if (r < 0) {
		czone_vm_discard(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

int czone_vm_attach(const struct czone_vm_opts *opts, czone_vm **ret_vm)
{
	struct czone_vm_opts complete;
	struct czone_vm *vm;
	int r;

	if (!ret_vm)
		return czone_fail(-EINVAL, "ret_vm is NULL");
	r = czone_options_in(&complete, sizeof(complete), opts,
			     czone_size_upto(struct czone_vm_opts, event_loop), "vm options");
	if (r < 0)
		return r;
	if (!complete.state_dir || !*complete.state_dir || !complete.name || !*complete.name)
		return czone_fail(-EINVAL, "vm options: %s is missing",
				  complete.state_dir && *complete.state_dir ? "name" : "state_dir");
	if (!complete.timeout_ms)
		complete.timeout_ms = CZONE_TIMEOUT_DEFAULT_MS;
	vm = czone_vm_new();
	if (!vm)
		return czone_fail(-ENOMEM, "no memory for a handle");
	r = czone_host_attach(vm, &complete);
	if (r < 0) {
		czone_vm_discard(vm);
		return r;
	}
	*ret_vm = vm;
	return 0;
}

int czone_vm_detach(czone_vm *vm)
{
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	if (!vm->driver->detach)
		return czone_fail(-EOPNOTSUPP, "only a VM of czone_vm_start() can be taken over");
	return vm->driver->detach(vm);
}

int czone_vm_stop(czone_vm *vm)
{
	int r = czone_vm_check(vm);

	if (r < 0)
		return r;
	if (!vm->driver->stop)
		return czone_fail(-EOPNOTSUPP, "the kernel that we run on cannot be stopped from here");
	return vm->driver->stop(vm);
}
