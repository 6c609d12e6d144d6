// SPDX-License-Identifier: LGPL-2.1-or-later
/* Runs tests one after another, each in a process of its own. usage: PROGRAM [SUITE/NAME] */
#include "criterion/criterion.h"

#include <sys/wait.h>

#define LIMIT_S 120	/* of one */

static struct plain_test *tests, **end = &tests;

void plain_add(struct plain_test *test)
{
	*end = test;
	end = &test->next;
}

/* 0, or 1 when it failed. */
static int run(const struct plain_test *test, void *parameter, size_t number)
{
	int status = -1;
	pid_t pid;

	fflush(NULL);
	pid = fork();
	if (!pid) {
		alarm(LIMIT_S);
		if (test->init)
			test->init();
		if (test->run)
			test->run();
		else
			test->run_with(parameter);
		if (test->fini)
			test->fini();
		exit(0);
	}
	if (pid > 0 && waitpid(pid, &status, 0) == pid && WIFEXITED(status) &&
	    (!WEXITSTATUS(status) || WEXITSTATUS(status) == PLAIN_SKIPPED))
		return 0;
	fprintf(stderr, "FAILED: %s/%s, number %zu: status %#x\n", test->suite, test->name, number,
		status);
	return 1;
}

int main(int argc, char **argv)
{
	int n = 0, failed = 0;

	for (const struct plain_test *test = tests; test; test = test->next) {
		struct criterion_test_params p = { .n = 1 };
		char name[200];

		snprintf(name, sizeof(name), "%s/%s", test->suite, test->name);
		if (argc > 1 && strcmp(argv[1], name))
			continue;
		if (test->parameters)
			p = test->parameters();
		for (size_t i = 0; i < p.n; i++, n++)
			failed += run(test, (char *)p.values + i * p.size, i);
	}
	printf("%d tests, %d failed\n", n, failed);
	return failed || !n;
}
