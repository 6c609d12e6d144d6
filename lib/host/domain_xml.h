/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The libvirt domain of a VM with a zone pool and the czone device. */
#ifndef LIB_HOST_DOMAIN_XML_H
#define LIB_HOST_DOMAIN_XML_H

#include <czone.h>
#include <stdbool.h>

/* QEMU's id of the pool's memory device. */
#define DOMAIN_POOL_ID "czone-pool0"

/* opts with every default filled in; returns malloc'ed XML, NULL without memory. */
char *domain_xml(const struct czone_vm_opts *opts, const char *device_socket,
		 const char *console_log, bool kvm);

#endif /* LIB_HOST_DOMAIN_XML_H */
