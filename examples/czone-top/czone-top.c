/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A live view of the zones of the kernel that it runs on. Use it in a guest to see
 * who has what, and what could be had back (RECLAIM). On a host the VMs belong to
 * the process that serves them: it can call top_print() of top.c, as faas-node does.
 *
 *	czone-top [--once] [--interval SECONDS] [guest:/// | test:///default]
 *
 * Sizes are MiB. It ends at SIGINT or with --once.
 */
#include "top.h"
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static volatile sig_atomic_t over;

static void end(int signal)
{
	(void)signal;
	over = 1;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "once", no_argument, NULL, 'o' },
		{ "interval", required_argument, NULL, 'i' },
		{ 0 },
	};
	const struct sigaction action = { .sa_handler = end };
	struct timespec pause;
	double interval = 1;
	bool once = false;
	const char *uri;
	czone_vm *vm;
	int option, r;

	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case 'o': once = true; break;
		case 'i': interval = strtod(optarg, NULL); break;
		default: interval = 0; break;
		}
	}
	if (!(interval > 0) || argc - optind > 1) {
		fprintf(stderr, "usage: czone-top [--once] [--interval SECONDS] [URI]\n");
		return 2;
	}
	uri = optind < argc ? argv[optind] : "guest:///";
	r = czone_open(uri, &vm);
	if (r < 0) {
		fprintf(stderr, "czone-top: %s\n", czone_error_detail());
		return 1;
	}
	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	pause.tv_sec = (time_t)interval;
	pause.tv_nsec = (interval - (double)pause.tv_sec) * 1e9;
	do {
		char *text = NULL;
		size_t size = 0;
		FILE *out = open_memstream(&text, &size);

		/* the screen changes at once */
		r = top_print(out, &vm, &uri, 1, strncmp(uri, "guest:", 6) ? NULL : "/sys/fs/cgroup");
		fclose(out);
		printf("%s%s", once ? "" : "\033[H\033[2J", text);
		fflush(stdout);
		free(text);
		if (!once && !over)
			nanosleep(&pause, NULL);
	} while (!once && !over && r == 0);
	czone_vm_unref(vm);
	return r < 0;
}
