/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* In place of lib/host/ where the library is built without it. */
#include "driver.h"
#include "probe.h"
#include <errno.h>

int czone_host_start(struct czone_vm *vm, const struct czone_vm_opts *opts)
{
	(void)vm;
	(void)opts;
	return czone_fail(-EOPNOTSUPP, "this libczone was built without its host half");
}

int czone_host_attach(struct czone_vm *vm, const struct czone_vm_opts *opts)
{
	return czone_host_start(vm, opts);
}

int czone_host_open_domain(struct czone_vm *vm, struct _virDomain *domain, uint32_t timeout_ms,
			   uint64_t flags)
{
	(void)flags;
	(void)domain;
	(void)timeout_ms;
	return czone_host_start(vm, NULL);
}

int czone_host_serve(struct czone_vm *vm, const struct czone_serve_opts *opts)
{
	(void)opts;
	return czone_host_start(vm, NULL);
}

int czone_host_domain_xml(const char *xml, const struct czone_vm_opts *opts, char **ret_xml,
			  char **ret_added)
{
	(void)xml;
	(void)ret_xml;
	(void)ret_added;
	return czone_host_start(NULL, opts);
}

int czone_host_probe(struct probe *probe, const struct czone_vm_opts *opts)
{
	(void)probe;
	(void)opts;
	return czone_fail(-EOPNOTSUPP, "this libczone was built without its host half");
}
