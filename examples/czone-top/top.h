/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* A table of VMs and their zones, for any process that has handles on them. */
#ifndef CZONE_TOP_TOP_H
#define CZONE_TOP_TOP_H

#include <czone.h>
#include <stdio.h>

/*
 * Print what there is now. Names are those of the VMs; `cgroups` is where cgroup v2
 * is mounted, to show paths instead of inodes, or NULL. 0, or the error of the last
 * VM that could not be asked; the others are shown all the same.
 */
int top_print(FILE *out, czone_vm *const *vms, const char *const *names, size_t n, const char *cgroups);

#endif /* CZONE_TOP_TOP_H */
