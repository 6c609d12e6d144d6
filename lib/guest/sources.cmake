# SPDX-License-Identifier: LGPL-2.1-or-later
set(guest
	guest/caps.c
	guest/cgroup.c
	guest/driver.c
	guest/netlink.c
	guest/probe.c
	guest/spawn.c
)
