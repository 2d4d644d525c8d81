"""Test suites for backends of other packages; they need pytest (`bucketwheel[testing]`)."""

import pytest

# Without this, a failed assertion would not show its values.
for suite in ("catalog", "engine", "executor", "lease", "lease_renewal"):
    pytest.register_assert_rewrite(f"{__name__}.{suite}")
