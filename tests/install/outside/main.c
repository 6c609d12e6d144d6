/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The header comes first: it needs no other. */
#include <czone.h>
#include <stdio.h>
#include <string.h>

int main(void)
{
	struct czone_vm_opts opts = CZONE_INIT(opts);
	char header[32];
	czone_vm *vm;

	snprintf(header, sizeof(header), "%d.%d.%d", CZONE_VERSION_MAJOR, CZONE_VERSION_MINOR,
		 CZONE_VERSION_PATCH);
	if (strcmp(header, czone_version())) {
		fprintf(stderr, "header %s, library %s\n", header, czone_version());
		return 1;
	}
	if (czone_vm_start(&opts, &vm) == 0 || !strstr(czone_error_detail(), "state_dir")) {
		fprintf(stderr, "unexpected: %s\n", czone_error_detail());
		return 1;
	}
	puts("outside ok");
	return 0;
}
