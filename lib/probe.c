/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Is all there that zones need? */
#include "probe.h"
#include "driver.h"
#include "options.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

void probe_say(struct probe *probe, const char *name, enum czone_probe_state state,
	       const char *remedy, const char *found, ...)
{
	struct czone_probe_item item = CZONE_INIT(item);
	char text[512];
	va_list ap;

	item.name = name;
	item.state = state;
	item.remedy = "";
	va_start(ap, found);
	vsnprintf(text, sizeof(text), found, ap);
	va_end(ap);
	item.found = text;
	if (state != CZONE_PROBE_OK)
		item.remedy = remedy;
	if (state == CZONE_PROBE_MISSING)
		probe->missing++;
	probe->fn(&item, probe->userdata);
}

int czone_probe(uint32_t what, const struct czone_vm_opts *opts, czone_probe_fn *fn, void *userdata)
{
	struct probe probe = { .fn = fn, .userdata = userdata };
	struct czone_vm_opts complete = CZONE_INIT(complete);
	int r = 0;

	if (!fn)
		return czone_fail(-EINVAL, "fn is NULL");
	if (!what || what & ~(CZONE_PROBE_HOST | CZONE_PROBE_GUEST))
		return czone_fail(-EINVAL, "what is %#x, not CZONE_PROBE_HOST or CZONE_PROBE_GUEST",
				  what);
	if (opts)
		r = czone_options_in(&complete, sizeof(complete), opts,
				     czone_size_upto(struct czone_vm_opts, event_loop), "vm options");
	if (r == 0 && what & CZONE_PROBE_HOST)
		r = czone_host_probe(&probe, &complete);
	if (r == 0 && what & CZONE_PROBE_GUEST)
		r = czone_guest_probe(&probe);
	return r < 0 ? r : probe.missing;
}
