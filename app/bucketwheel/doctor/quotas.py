"""Compare what the jobs and their stack ask for with the quotas of the account and the limits of CloudFormation."""

from __future__ import annotations

from bucketwheel.deploy.quotas import quotas
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.deploy.template.template import MOST_BYTES, MOST_INLINE_BYTES, MOST_RESOURCES, compact, template
from bucketwheel.doctor.checks import CheckResult, State, failed, ok
from bucketwheel.doctor.stack import with_package
from bucketwheel.errors import ConfigError
from bucketwheel.formatting import counted


def look(deployment: Deployment) -> CheckResult:
    """Compare the demand of all datasets in parallel with the quotas.

    Raises:
        BucketwheelError: there are no valid credentials.
    """
    compared = list(quotas(deployment))
    if exceeded := [quota for quota in compared if quota.is_exceeded]:
        # A documented default may be lower than the quota of this account.
        state: State = "failed" if any(quota.is_known for quota in exceeded) else "warning"
        return CheckResult(state, "\n".join(map(str, exceeded)), "\n".join(quota.fix() for quota in exceeded))
    return ok("\n".join(f"{quota.demand.what}: {quota.demand.needed:,} of {quota.value:,.0f} ({quota.origin})"
                        for quota in compared))  # fmt: skip


def stack_size(deployment: Deployment) -> CheckResult:
    """Compare the template with CloudFormation's limits, and report whatever else `deploy apply` would refuse."""
    try:
        rendered = template(with_package(deployment).settings, deployment.env)
    except ConfigError as error:
        assumed = "" if deployment.settings.deploy.package else "deploy.package: "
        problems = [text for text in str(error).splitlines() if not assumed or not text.startswith(assumed)]
        parts = [text.partition("; ") for text in problems or [str(error)]]
        return failed("\n".join(problem for problem, _, _ in parts), "\n".join(todo for _, _, todo in parts if todo))
    resources, size = len(rendered["Resources"]), len(compact(rendered).encode())
    found = f"{counted(resources, 'resource')} of {MOST_RESOURCES}, template of {size:,} of {MOST_BYTES:,} bytes"
    if size > MOST_INLINE_BYTES and not deployment.settings.deploy.artifacts:
        return failed(
            f"{found}, more than the {MOST_INLINE_BYTES:,} that CloudFormation accepts in a call",
            "set deploy.artifacts to an S3 location, so that `deploy apply` can upload the template",
        )
    return ok(found)
