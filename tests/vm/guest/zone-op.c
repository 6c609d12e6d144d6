// SPDX-License-Identifier: LGPL-2.1-or-later
/*
 * zone-op: one call of the guest half of the library, with a time limit.
 *
 *   zone-op create MIB               prints the id
 *   zone-op reclaim ID LIMIT_MS      prints what came back; id 0 is the VM
 *   zone-op destroy ID LIMIT_MS
 *   zone-op idle ID DELAY_MS FLOOR_BYTES
 *
 * Every line begins with the result (0 or an errno) and how many milliseconds
 * the call took. The exit status is 0 whatever the result.
 */
#include <czone.h>
#include <err.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 10);

	if (!*text || *end)
		errx(2, "no number: %s", text);
	return n;
}

static int reclaim(czone_vm *vm, czone *zone, uint32_t limit_ms, uint64_t *returned)
{
	struct czone_reclaim_opts opts = CZONE_INIT(opts);

	opts.timeout_ms = limit_ms;
	return zone ? czone_reclaim(zone, UINT64_MAX, &opts, returned) :
		      czone_vm_reclaim(vm, UINT64_MAX, &opts, returned);
}

int main(int argc, char **argv)
{
	struct czone_create_opts create = CZONE_INIT(create);
	struct czone_idle_opts idle = CZONE_INIT(idle);
	const char *op = argc > 1 ? argv[1] : "";
	uint64_t start, value = 0;
	czone *zone = NULL;
	czone_vm *vm;
	int r;

	if (argc < 3)
		errx(2, "usage: zone-op create|reclaim|destroy|idle ...");
	if (czone_open(NULL, &vm) < 0)
		errx(2, "%s", czone_error_detail());
	if (strcmp(op, "create") && number(argv[2]) && czone_lookup(vm, number(argv[2]), &zone) < 0)
		errx(2, "%s", czone_error_detail());
	start = now_ms();
	if (!strcmp(op, "create")) {
		create.size = number(argv[2]) << 20;
		r = czone_create(vm, &create, &zone);
		value = r < 0 ? 0 : czone_id(zone);
	} else if (!strcmp(op, "reclaim") && argc == 4) {
		r = reclaim(vm, zone, number(argv[3]), &value);
	} else if (!strcmp(op, "destroy") && argc == 4) {
		r = czone_destroy(zone, 0, number(argv[3]), NULL);
	} else if (!strcmp(op, "idle") && argc == 5) {
		idle.delay_ms = number(argv[3]);
		idle.floor = number(argv[4]);
		r = czone_set_idle_return(zone, &idle);
	} else {
		errx(2, "usage: zone-op create|reclaim|destroy|idle ...");
	}
	printf("%d %" PRIu64 " %" PRIu64 "\n", -r, now_ms() - start, value);
	czone_unref(zone);
	czone_vm_unref(vm);
	return 0;
}
