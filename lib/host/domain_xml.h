/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The libvirt domain of a VM that a few options describe. */
#ifndef LIB_HOST_DOMAIN_XML_H
#define LIB_HOST_DOMAIN_XML_H

#include <czone.h>
#include <stdbool.h>

/* opts with every default filled in; returns malloc'ed XML, NULL without memory. */
char *domain_xml(const struct czone_vm_opts *opts, const char *console_log, bool kvm);

#endif /* LIB_HOST_DOMAIN_XML_H */
