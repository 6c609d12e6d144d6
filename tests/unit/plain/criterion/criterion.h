/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * As much of Criterion as the tests of the device use, in plain C: Criterion
 * cannot run under the thread sanitizer, and a measurement wants no test runner.
 * Each test is a process; plain.c runs them.
 */
#ifndef TESTS_UNIT_PLAIN_CRITERION_H
#define TESTS_UNIT_PLAIN_CRITERION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PLAIN_SKIPPED 77

struct criterion_test_params {
	size_t size;
	void *values;
	size_t n;
};

struct plain_options {
	double timeout;		/* of one, in seconds */
};

struct plain_test {
	struct plain_test *next;
	const char *suite, *name;
	void (*run)(void);
	void (*init)(void), (*fini)(void);	/* around it, in the same process */
	double timeout, signal;			/* not heeded */
	void (*run_with)(void *parameter);
	struct criterion_test_params (*parameters)(void);
};

void plain_add(struct plain_test *test);

#define PLAIN_ADD(s, n, ...) \
	__attribute__((constructor)) static void plain_add_##s##_##n(void) \
	{ \
		static struct plain_test test = { .suite = #s, .name = #n, __VA_ARGS__ }; \
		plain_add(&test); \
	}

#define TestSuite(s, ...) struct plain_options plain_suite_##s __attribute__((unused))

#define Test(s, n, ...) \
	static void plain_##s##_##n(void); \
	PLAIN_ADD(s, n, .run = plain_##s##_##n, ##__VA_ARGS__) \
	static void plain_##s##_##n(void)

#define ParameterizedTestParameters(s, n) \
	static struct criterion_test_params plain_parameters_##s##_##n(void)

#define ParameterizedTest(parameter, s, n, ...) \
	static void plain_##s##_##n(parameter); \
	PLAIN_ADD(s, n, .run_with = (void (*)(void *))plain_##s##_##n, \
		  .parameters = plain_parameters_##s##_##n) \
	static void plain_##s##_##n(parameter)

#define cr_make_param_array(type, array, count) \
	((struct criterion_test_params){ sizeof(type), array, count })

/* Without a word, or as printf() has it. */
#define PLAIN_SAY(...) \
	(fprintf(stderr, " " __VA_ARGS__), fputc('\n', stderr))

#define cr_assert(what, ...) \
	((what) ? (void)0 : \
	 (fprintf(stderr, "%s:%d: not true: %s:", __FILE__, __LINE__, #what), \
	  PLAIN_SAY(__VA_ARGS__), abort()))
#define cr_assert_not(what, ...) cr_assert(!(what), ##__VA_ARGS__)
#define cr_assert_null(what, ...) cr_assert(!(what), ##__VA_ARGS__)
#define cr_assert_not_null(what, ...) cr_assert((what) != NULL, ##__VA_ARGS__)
#define cr_assert_eq(a, b, ...) cr_assert((a) == (b), ##__VA_ARGS__)
#define cr_assert_neq(a, b, ...) cr_assert((a) != (b), ##__VA_ARGS__)
#define cr_assert_lt(a, b, ...) cr_assert((a) < (b), ##__VA_ARGS__)
#define cr_assert_leq(a, b, ...) cr_assert((a) <= (b), ##__VA_ARGS__)
#define cr_assert_gt(a, b, ...) cr_assert((a) > (b), ##__VA_ARGS__)
#define cr_assert_geq(a, b, ...) cr_assert((a) >= (b), ##__VA_ARGS__)
#define cr_assert_arr_eq(a, b, size, ...) cr_assert(!memcmp(a, b, size), ##__VA_ARGS__)
#define cr_skip_test(...) (PLAIN_SAY(__VA_ARGS__), _exit(PLAIN_SKIPPED))

#endif /* TESTS_UNIT_PLAIN_CRITERION_H */
