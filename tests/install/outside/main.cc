/* SPDX-License-Identifier: LGPL-2.1-or-later */
#include <czone.h>
#include <cstdio>
#include <cstring>

int main()
{
	struct czone_create_opts create = CZONE_INIT(create);
	struct czone_vm_opts opts = CZONE_INIT(opts);
	czone_vm *vm = nullptr;

	if (create.struct_size != sizeof(create) || create.size != 0)
		return 1;
	if (czone_vm_start(&opts, &vm) == 0 || !std::strstr(czone_error_detail(), "state_dir")) {
		std::fprintf(stderr, "unexpected: %s\n", czone_error_detail());
		return 1;
	}
	std::puts("outside ok");
	return 0;
}
