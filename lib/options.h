/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Structs that begin with their size. A caller may have been compiled with an
 * older (shorter) or a newer (longer) definition than the library.
 */
#ifndef LIB_OPTIONS_H
#define LIB_OPTIONS_H

#include <stddef.h>

/* Size of a struct up to and with one member: what the first release had. */
#define czone_size_upto(type, member) (offsetof(type, member) + sizeof(((type *)0)->member))

/*
 * Copy options in: what the caller's struct lacks is 0; what the library does
 * not know must be 0, else -E2BIG. `least` is the size of the first release.
 */
int czone_options_in(void *to, size_t known, const void *from, size_t least, const char *what);

/* Whether a struct for results has a sensible size; NULL is not fine. */
int czone_results_check(const void *to, size_t least, const char *what);

/* Copy results out; what the library does not know becomes CZONE_UNKNOWN. */
void czone_results_out(void *to, const void *from, size_t known);

#endif /* LIB_OPTIONS_H */
