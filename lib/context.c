/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Opening a kernel that has zones. */
#include "handle.h"
#include "options.h"
#include <errno.h>
#include <stdbool.h>
#include <string.h>


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

static int check_state_dir(const struct czone_vm_opts *opts)
{
	if (!opts->state_dir || !*opts->state_dir)
		return czone_fail(-EINVAL, "vm options: state_dir is missing");
	return 0;
}

/* Of a domain that comes whole, its parts are not for us to say. */
static int check_domain_opts(const struct czone_vm_opts *opts)
{
	const struct { bool given; const char *name; } part[] = {
		{ opts->name, "name" }, { opts->emulator, "emulator" }, { opts->kernel, "kernel" },
		{ opts->initrd, "initrd" }, { opts->cmdline, "cmdline" }, { opts->disks, "disks" },
		{ opts->channel, "channel" }, { opts->boot_bytes, "boot_bytes" },
		{ opts->vcpus, "vcpus" }, { opts->kvm, "kvm" },
	};

	for (size_t i = 0; i < ARRAY_SIZE(part); i++)
		if (part[i].given)
			return czone_fail(-EINVAL, "vm options: %s and a domain_xml, where it stands",
					  part[i].name);
	return 0;
}

static int complete_pool_opts(struct czone_vm_opts *opts)
{
	if (opts->pool_bytes % CZONE_POOL_STEP)
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
	if (!opts->pool_bytes)
		opts->pool_bytes = (uint64_t)4 << 30;
	if (opts->pool_max_bytes && opts->pool_max_bytes < opts->pool_bytes)
		return czone_fail(-EINVAL, "vm options: pool_max_bytes is less than pool_bytes, %llu",
				  (unsigned long long)opts->pool_bytes);
	return 0;
}

static int check_connection_opts(const struct czone_vm_opts *opts)
{
	if (opts->uri && opts->connect)
		return czone_fail(-EINVAL, "vm options: uri and connect: one of the two");
	switch (opts->event_loop) {
	case CZONE_EVENT_LOOP_OWN:
	case CZONE_EVENT_LOOP_CALLER:
		return 0;
	default:
		return czone_fail(-EINVAL, "vm options: event_loop is %d, which is unknown",
				  (int)opts->event_loop);
	}
}

static int complete_vm_opts(struct czone_vm_opts *opts)
{
	int r = check_state_dir(opts);

	if (r == 0 && opts->domain_xml)
		r = check_domain_opts(opts);
	else if (r == 0 && (!opts->kernel || !*opts->kernel))
		r = czone_fail(-EINVAL, "vm options: kernel is missing");
	if (r == 0)
		r = complete_pool_opts(opts);
	if (r == 0 && opts->kvm > CZONE_KVM_OFF)
		r = czone_fail(-EINVAL, "vm options: kvm is %u, which is unknown", opts->kvm);
	if (r == 0)
		r = check_connection_opts(opts);
	if (r < 0)
		return r;
	if (!opts->boot_bytes)
		opts->boot_bytes = (uint64_t)256 << 20;
	if (!opts->vcpus)
		opts->vcpus = 1;
	if (!opts->timeout_ms)
		opts->timeout_ms = 120000;
	return 0;
}

static int vm_opts_in(struct czone_vm_opts *complete, const struct czone_vm_opts *opts)
{
	int r = czone_options_in(complete, sizeof(*complete), opts,
				 czone_size_upto(struct czone_vm_opts, event_loop), "vm options");

	if (r == 0 && complete->flags & ~(uint64_t)CZONE_VM_NO_WAIT)
		r = czone_fail(-EINVAL, "vm options: unknown flags %#llx",
			       (unsigned long long)complete->flags & ~(uint64_t)CZONE_VM_NO_WAIT);
	return r;
}

/* The context, if there is one, or nothing is left of it. */
static int finish(struct czone_vm *vm, int r, czone_vm **ret_vm)
{
	if (r < 0)
		czone_vm_discard(vm);
	else
		*ret_vm = vm;
	return r;
}

int czone_vm_start(const struct czone_vm_opts *opts, czone_vm **ret_vm)
{
	struct czone_vm_opts complete;
	struct czone_vm *vm;
	int r;

	if (!ret_vm)
		return czone_fail(-EINVAL, "ret_vm is NULL");
	r = vm_opts_in(&complete, opts);
	if (r == 0)
		r = complete_vm_opts(&complete);
	if (r < 0)
		return r;
	vm = czone_vm_new();
	if (!vm)
		return czone_fail(-ENOMEM, "no memory for a handle");
	return finish(vm, czone_host_start(vm, &complete), ret_vm);
}

int czone_domain_xml(const char *xml, const struct czone_vm_opts *opts, char **ret_xml,
		     char **ret_added)
{
	struct czone_vm_opts complete;
	int r;

	if (!xml || !ret_xml)
		return czone_fail(-EINVAL, "domain_xml: %s is NULL", xml ? "ret_xml" : "xml");
	r = vm_opts_in(&complete, opts);
	if (r == 0)
		r = check_state_dir(&complete);
	if (r == 0)
		r = complete_pool_opts(&complete);
	return r < 0 ? r : czone_host_domain_xml(xml, &complete, ret_xml, ret_added);
}

int czone_vm_attach(const struct czone_vm_opts *opts, czone_vm **ret_vm)
{
	struct czone_vm_opts complete;
	struct czone_vm *vm;
	int r;

	if (!ret_vm)
		return czone_fail(-EINVAL, "ret_vm is NULL");
	r = vm_opts_in(&complete, opts);
	if (r == 0 && !complete.uri && !complete.connect)
		r = check_state_dir(&complete);
	if (r == 0 && (!complete.name || !*complete.name))
		r = czone_fail(-EINVAL, "vm options: name is missing");
	if (r == 0)
		r = check_connection_opts(&complete);
	if (r < 0)
		return r;
	if (!complete.timeout_ms)
		complete.timeout_ms = CZONE_TIMEOUT_DEFAULT_MS;
	vm = czone_vm_new();
	if (!vm)
		return czone_fail(-ENOMEM, "no memory for a handle");
	return finish(vm, czone_host_attach(vm, &complete), ret_vm);
}

int czone_open_domain(struct _virDomain *domain, const struct czone_vm_opts *opts, czone_vm **ret_vm)
{
	struct czone_vm_opts complete = { .timeout_ms = 0 };
	struct czone_vm *vm;
	int r = 0;

	if (!domain || !ret_vm)
		return czone_fail(-EINVAL, "open_domain: %s is NULL", domain ? "ret_vm" : "domain");
	if (opts)
		r = vm_opts_in(&complete, opts);
	if (r < 0)
		return r;
	vm = czone_vm_new();
	if (!vm)
		return czone_fail(-ENOMEM, "no memory for a handle");
	return finish(vm, czone_host_open_domain(vm, domain, czone_timeout(complete.timeout_ms),
					  complete.flags), ret_vm);
}

int czone_serve_socket(const struct czone_serve_opts *opts, czone_vm **ret_vm)
{
	struct czone_serve_opts o;
	struct czone_vm *vm;
	int r;

	if (!ret_vm)
		return czone_fail(-EINVAL, "ret_vm is NULL");
	r = czone_options_in(&o, sizeof(o), opts,
			     czone_size_upto(struct czone_serve_opts, report_shift), "serve options");
	if (r < 0)
		return r;
	if (!o.path || !*o.path)
		return czone_fail(-EINVAL, "serve options: path is missing");
	if (!o.pool_bytes || o.pool_bytes % CZONE_POOL_STEP || !o.pool_start || o.pool_start % CZONE_POOL_STEP)
		return czone_fail(-EINVAL, "serve options: %s is no multiple of 128 MiB, or 0",
				  o.pool_bytes && !(o.pool_bytes % CZONE_POOL_STEP) ? "pool_start" : "pool_bytes");
	if (!o.backing_shift)
		o.backing_shift = 12;
	if (!o.report_shift)
		o.report_shift = 12;
	vm = czone_vm_new();
	if (!vm)
		return czone_fail(-ENOMEM, "no memory for a handle");
	return finish(vm, czone_host_serve(vm, &o), ret_vm);
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
