# SPDX-License-Identifier: LGPL-2.1-or-later
import pytest

from microvm import MicroVM


@pytest.fixture(scope="module")
def microvm():
    """One VM for all tests of a file."""
    with MicroVM() as vm:
        yield vm


@pytest.fixture(autouse=True)
def clean(request):
    """Before a test nothing of the last one's memory is on its way back; after it the log is clean."""
    microvm = request.getfixturevalue("microvm") if "microvm" in request.fixturenames else None
    if microvm:
        microvm.settle()
    yield
    if microvm:
        microvm.check_log()
