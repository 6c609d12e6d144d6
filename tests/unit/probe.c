/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The preflight: each missing piece has a name and a remedy. */
#include <criterion/criterion.h>
#include <czone.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

struct finding {
	char name[32], found[600], remedy[300];
	enum czone_probe_state state;
};

static struct finding findings[64];
static int n_findings;

static void note(const struct czone_probe_item *item, void *userdata)
{
	struct finding *f = &findings[n_findings++];

	cr_assert_eq(userdata, findings);
	snprintf(f->name, sizeof(f->name), "%s", item->name);
	snprintf(f->found, sizeof(f->found), "%s", item->found);
	snprintf(f->remedy, sizeof(f->remedy), "%s", item->remedy);
	f->state = item->state;
}

static int probe(uint32_t what, const struct czone_vm_opts *opts)
{
	int missing = 0, r;

	n_findings = 0;
	r = czone_probe(what, opts, note, findings);
	for (int i = 0; i < n_findings; i++) {
		cr_assert(*findings[i].name && *findings[i].found);
		cr_assert_eq(!*findings[i].remedy, findings[i].state == CZONE_PROBE_OK, "%s: \"%s\"",
			     findings[i].name, findings[i].remedy);
		missing += findings[i].state == CZONE_PROBE_MISSING;
	}
	if (r >= 0)
		cr_assert_eq(r, missing);
	return r;
}

static struct finding *named(const char *name)
{
	for (int i = 0; i < n_findings; i++)
		if (!strcmp(findings[i].name, name))
			return &findings[i];
	cr_assert_fail("there is no finding \"%s\"", name);
	return NULL;
}

/* A program that claims to be a QEMU. */
static void make_emulator(char *path, const char *script)
{
	FILE *f;

	strcpy(path, "/tmp/czone-probe.XXXXXX");
	f = fdopen(mkstemp(path), "w");
	fprintf(f, "#!/bin/sh\n%s\n", script);
	fclose(f);
	chmod(path, 0700);
}

static void with_emulator(const char *script, const char *what, enum czone_probe_state state,
			  const char *found)
{
	struct czone_vm_opts opts = CZONE_INIT(opts);
	char path[64];

	make_emulator(path, script);
	opts.emulator = path;
	probe(CZONE_PROBE_HOST, &opts);
	unlink(path);
	cr_assert_eq(named(what)->state, state, "%s: %s", script, named(what)->found);
	cr_assert(strstr(named(what)->found, found), "%s", named(what)->found);
}

Test(probe, arguments)
{
	struct czone_vm_opts opts = CZONE_INIT(opts);

	cr_assert_eq(czone_probe(CZONE_PROBE_HOST, NULL, NULL, NULL), -EINVAL);
	cr_assert_eq(probe(0, NULL), -EINVAL);
	cr_assert_eq(probe(8, NULL), -EINVAL);
	opts.struct_size = 1;
	cr_assert_eq(probe(CZONE_PROBE_HOST, &opts), -EINVAL);
	cr_assert_eq(n_findings, 0);
}

Test(probe, an_old_qemu_and_one_without_the_device)
{
	with_emulator("echo QEMU emulator version 7.2.9", "qemu", CZONE_PROBE_MISSING, "QEMU 7.2");
	with_emulator("echo QEMU emulator version 11.0.0", "device", CZONE_PROBE_MISSING,
		      "without vhost-user-test-device-pci");
	with_emulator("echo 'QEMU emulator version 11.1.3 \"vhost-user-test-device-pci\"'", "device",
		      CZONE_PROBE_OK, "it has");
	with_emulator("echo nonsense", "qemu", CZONE_PROBE_MISSING, "does not tell its version");
	with_emulator("exec yes", "qemu", CZONE_PROBE_MISSING, "does not tell its version");
}

Test(probe, what_an_option_names_must_be_there)
{
	struct czone_vm_opts opts = CZONE_INIT(opts);

	opts.emulator = "/nonexistent/qemu";
	opts.kernel = "/nonexistent/kernel";
	opts.pool_dir = "/nonexistent/pool";
	cr_assert_geq(probe(CZONE_PROBE_HOST, &opts), 3);
	cr_assert_eq(named("qemu")->state, CZONE_PROBE_MISSING);
	cr_assert_eq(named("kernel")->state, CZONE_PROBE_MISSING);
	cr_assert_eq(named("pool")->state, CZONE_PROBE_MISSING);
	opts.pool_dir = "/proc";	/* no tmpfs */
	opts.kernel = "/proc/self/exe";
	probe(CZONE_PROBE_HOST, &opts);
	cr_assert(strstr(named("pool")->found, "tmpfs"), "%s", named("pool")->found);
	cr_assert_eq(named("kernel")->state, CZONE_PROBE_OK);
}

Test(probe, huge_pages_that_fill_up_again)
{
	struct czone_vm_opts opts = CZONE_INIT(opts);
	char dir[] = "/tmp/czone-probe-XXXXXX";
	struct finding *f;

	cr_assert(mkdtemp(dir));
	if (mount("czone", dir, "tmpfs", 0, "huge=always,mode=0700")) {
		rmdir(dir);
		cr_skip_test("only root can mount a tmpfs");
	}
	opts.pool_dir = dir;
	probe(CZONE_PROBE_HOST, &opts);
	umount(dir);
	rmdir(dir);
	f = named("khugepaged");
	cr_assert_eq(f->state == CZONE_PROBE_OK, !strstr(f->found, "may fill up"), "%s", f->found);
	cr_assert(f->state == CZONE_PROBE_OK || strstr(f->remedy, "max_ptes_none"));
}

Test(probe, punches_a_real_hole)
{
	probe(CZONE_PROBE_HOST, NULL);
	cr_assert_eq(named("shared-memory")->state, CZONE_PROBE_OK, "%s", named("shared-memory")->found);
	cr_assert(strstr(named("shared-memory")->found, "1024 of 1024"), "%s",
		  named("shared-memory")->found);
}

Test(probe, this_kernel_without_zones_says_so)
{
	czone_vm *here;

	if (!czone_open(NULL, &here)) {
		czone_vm_unref(here);
		return;
	}
	cr_assert_geq(probe(CZONE_PROBE_GUEST, NULL), 1);
	cr_assert_eq(named("zones")->state, CZONE_PROBE_MISSING);
	cr_assert(strstr(named("zones")->remedy, "CONFIG_CZONE"));
}
