/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Say what this machine, or this guest, lacks for zones and how to get it.
 * Use it before anything else, or from the health check of a node.
 *
 *	czone-doctor [--guest] [--pool-dir DIR] [--kernel IMAGE] [--emulator QEMU]
 *
 * The exit status is 0 when nothing is missing, 1 when something is, 2 when it could not look.
 */
#include <czone.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>

static void show(const struct czone_probe_item *item, void *unused)
{
	static const char *const mark[] = { "ok", "weak", "MISSING" };

	(void)unused;
	printf("%-8s %-14s %s\n", mark[item->state], item->name, item->found);
	if (*item->remedy)
		printf("%-8s %-14s   -> %s\n", "", "", item->remedy);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "guest", no_argument, NULL, 'g' },
		{ "pool-dir", required_argument, NULL, 'p' },
		{ "kernel", required_argument, NULL, 'k' },
		{ "emulator", required_argument, NULL, 'e' },
		{ "help", no_argument, NULL, 'h' },
		{ 0 },
	};
	struct czone_vm_opts vm = CZONE_INIT(vm);
	uint32_t what = CZONE_PROBE_HOST;
	int option, missing;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'g': what = CZONE_PROBE_GUEST; break;
		case 'p': vm.pool_dir = optarg; break;
		case 'k': vm.kernel = optarg; break;
		case 'e': vm.emulator = optarg; break;
		default:
			fprintf(stderr, "usage: czone-doctor [--guest] [--pool-dir DIR] [--kernel IMAGE] [--emulator QEMU]\n");
			return option == 'h' ? 0 : 2;
		}
	}
	missing = czone_probe(what, what == CZONE_PROBE_HOST ? &vm : NULL, show, NULL);
	if (missing < 0) {
		fprintf(stderr, "czone-doctor: %s: %s\n", czone_strerror(missing), czone_error_detail());
		return 2;
	}
	if (missing)
		printf("\n%d missing: %s\n", missing, what == CZONE_PROBE_HOST ?
		       "this machine cannot run VMs with zones yet" : "this kernel cannot make zones yet");
	else
		printf("\nnothing is missing\n");
	return missing != 0;
}
