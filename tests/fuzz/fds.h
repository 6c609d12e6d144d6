/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * File descriptors for the library under test, without a system call for each:
 * numbers of our own, behind which is a file of the target, or an eventfd that
 * nobody reads. The linker brings the library's calls here (FUZZ_FDS in
 * CMakeLists.txt); each use of a number that is not open ends the run.
 */
#ifndef TESTS_FUZZ_FDS_H
#define TESTS_FUZZ_FDS_H

/* A new descriptor of a file, which stays open itself; of an eventfd where it is -1. */
int fds_new(int file);

/* How many are open: the same before an input and after it. */
unsigned int fds_open(void);

/* The file behind a descriptor. */
int fds_file(int fd);

#endif /* TESTS_FUZZ_FDS_H */
