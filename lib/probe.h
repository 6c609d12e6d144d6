/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the two halves of czone_probe() tell their findings to. */
#ifndef LIB_PROBE_H
#define LIB_PROBE_H

#include <czone.h>

struct probe {
	czone_probe_fn *fn;
	void *userdata;
	int missing;
};

/* One finding. `remedy` is not told when the state is CZONE_PROBE_OK. */
void probe_say(struct probe *probe, const char *name, enum czone_probe_state state,
	       const char *remedy, const char *found, ...) CZONE_PRINTF(5, 6);

/* Both return 0, or a negative errno when they could not look at all. */
int czone_guest_probe(struct probe *probe);					/* lib/guest/ */
int czone_host_probe(struct probe *probe, const struct czone_vm_opts *opts);	/* lib/host/ */

#endif /* LIB_PROBE_H */
