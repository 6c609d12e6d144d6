/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the kernel that we run on has for zones. */
#include "guest.h"
#include "../probe.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/capability.h>

static void probe_zones(struct probe *probe)
{
	struct czone_vm_stats stats = CZONE_INIT(stats);
	czone_vm *here;

	if (czone_open(NULL, &here) < 0) {
		probe_say(probe, "zones", CZONE_PROBE_MISSING,
			  "boot the kernel that script/build-kernel makes (CONFIG_CZONE=y)",
			  "%s", czone_error_detail());
		return;
	}
	probe_say(probe, "zones", CZONE_PROBE_OK, "", "this kernel has memory zones");
	if (czone_vm_stats(here, &stats) < 0)
		probe_say(probe, "pool", CZONE_PROBE_MISSING, "see dmesg", "%s", czone_error_detail());
	else if (!stats.pool_size)
		probe_say(probe, "pool", CZONE_PROBE_MISSING,
			  "the host adds one: start the VM with czone_vm_start(), and this kernel with CONFIG_VIRTIO_CZONE",
			  "there is no memory for zones");
	else
		probe_say(probe, "pool", CZONE_PROBE_OK, "", "%llu MiB for zones, thereof %llu MiB free",
			  (unsigned long long)stats.pool_size >> 20,
			  (unsigned long long)(stats.pool_size - stats.pool_used) >> 20);
	czone_vm_unref(here);
}

/* Is the memory controller there, and handed down to the cgroups of containers? */
static void probe_controller(struct probe *probe, const char *mount)
{
	static const char *const file[] = { "cgroup.controllers", "cgroup.subtree_control" };
	static const char *const remedy[] = {
		"boot with CONFIG_MEMCG=y, without cgroup_disable=memory, and without a v1 memory hierarchy",
		"echo +memory > cgroup.subtree_control in each cgroup above the containers",
	};
	char path[4200], line[512];

	for (int i = 0; i < 2; i++) {
		FILE *f;

		snprintf(path, sizeof(path), "%s/%s", mount, file[i]);
		f = fopen(path, "re");
		line[0] = ' ';
		if (!f || !fgets(line + 1, sizeof(line) - 1, f))
			line[1] = 0;
		if (f)
			fclose(f);
		line[strcspn(line, "\n")] = ' ';
		if (!strstr(line, " memory ")) {
			probe_say(probe, "memcg", CZONE_PROBE_MISSING, remedy[i],
				  "%s is without \"memory\"", path);
			return;
		}
	}
	probe_say(probe, "memcg", CZONE_PROBE_OK, "", "the memory controller is enabled below %s", mount);
}

static void probe_privilege(struct probe *probe)
{
	cap_flag_value_t permitted = CAP_CLEAR;
	cap_t caps = cap_get_proc();

	if (caps) {
		cap_get_flag(caps, CAP_SYS_ADMIN, CAP_PERMITTED, &permitted);
		cap_free(caps);
	}
	probe_say(probe, "privilege", permitted == CAP_SET ? CZONE_PROBE_OK : CZONE_PROBE_WEAK,
		  "run with CAP_SYS_ADMIN in the initial user namespace; without it there are statistics only",
		  permitted == CAP_SET ? "this process may change zones" :
		  "this process is without CAP_SYS_ADMIN");
}

int czone_guest_probe(struct probe *probe)
{
	char mount[4096];

	probe_zones(probe);
	if (cgroup_find_mount("/proc/self/mountinfo", mount, sizeof(mount)) < 0) {
		probe_say(probe, "cgroup2", CZONE_PROBE_MISSING,
			  "mount -t cgroup2 cgroup2 /sys/fs/cgroup", "%s", czone_error_detail());
	} else {
		probe_say(probe, "cgroup2", CZONE_PROBE_OK, "", "mounted at %s", mount);
		probe_controller(probe, mount);
	}
	probe_privilege(probe);
	return 0;
}
