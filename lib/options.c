/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include "options.h"
#include "driver.h"
#include <errno.h>
#include <string.h>

/* No struct will ever be larger; a size above it was never set. */
#define SIZE_LIMIT 4096

static size_t struct_size(const void *s)
{
	size_t size;

	memcpy(&size, s, sizeof(size));
	return size;
}

static int check_size(const void *s, size_t least, const char *what)
{
	if (!s)
		return czone_fail(-EINVAL, "%s is NULL", what);
	if (struct_size(s) < least || struct_size(s) > SIZE_LIMIT)
		return czone_fail(-EINVAL, "%s: struct_size is %zu: start it with CZONE_INIT", what,
				  struct_size(s));
	return 0;
}

int czone_options_in(void *to, size_t known, const void *from, size_t least, const char *what)
{
	const unsigned char *bytes = from;
	size_t size;
	int r;

	r = check_size(from, least, what);
	if (r < 0)
		return r;
	size = struct_size(from);
	for (size_t i = known; i < size; i++) {
		if (bytes[i])
			return czone_fail(-E2BIG,
					  "%s sets an option at byte %zu that libczone %s does not know",
					  what, i, czone_version());
	}
	memset(to, 0, known);
	memcpy(to, from, size < known ? size : known);
	memcpy(to, &known, sizeof(known));
	return 0;
}

int czone_results_check(const void *to, size_t least, const char *what)
{
	return check_size(to, least, what);
}

void czone_results_out(void *to, const void *from, size_t known)
{
	size_t size = struct_size(to);

	memcpy(to, from, size < known ? size : known);
	memcpy(to, &size, sizeof(size));
	if (size > known)
		memset((char *)to + known, 0xff, size - known);
}
