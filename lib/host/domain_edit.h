/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A libvirt domain gets a pool for zones and the device, or is refused. */
#ifndef LIB_HOST_DOMAIN_EDIT_H
#define LIB_HOST_DOMAIN_EDIT_H

#include <czone.h>

/*
 * Of opts counts what is about the pool, with defaults filled in. `socket` is
 * where the device will be. The three results are to be freed; the last two may
 * be NULL. -EINVAL: no such domain, or it leaves no room; -EEXIST: it has the
 * device; -EOPNOTSUPP: it has something that rules the device out.
 */
int domain_add_zones(const char *xml, const struct czone_vm_opts *opts, const char *socket,
		     char **ret_xml, char **ret_added, char **ret_name);

/* The name of a domain, to be freed. */
int domain_name(const char *xml, char **ret_name);

/* Where the device of such a domain is, by its XML; to be freed. -ENOENT: it has none. */
int domain_device_socket(const char *xml, char **ret_socket);

#endif /* LIB_HOST_DOMAIN_EDIT_H */
