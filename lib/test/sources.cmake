# SPDX-License-Identifier: LGPL-2.1-or-later
set(test
	test/driver.c
	test/memory.c
	test/task.c
)
