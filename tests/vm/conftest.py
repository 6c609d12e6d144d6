# SPDX-License-Identifier: LGPL-2.1-or-later
import pytest

from microvm import MicroVM


@pytest.fixture(scope="module")
def microvm():
    """One VM for all tests of a file."""
    with MicroVM() as vm:
        yield vm


@pytest.fixture(autouse=True)
def clean_log(request):
    """After every test the guest's log must be clean."""
    yield
    if "microvm" in request.fixturenames:
        request.getfixturevalue("microvm").check_log()
