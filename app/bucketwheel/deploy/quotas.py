"""Compare what jobs ask for with the quotas of the account."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from bucketwheel.aws import clients
from bucketwheel.aws.errors import is_denied, lacks_credentials, wrap_aws_errors
from bucketwheel.deploy.demand import Demand, demands
from bucketwheel.deploy.template.deployment import Deployment
from bucketwheel.errors import BucketwheelError

# Quotas are advice: one call, repeated once, must not hold up a deployment.
_ATTEMPTS = 2


@dataclass(frozen=True)
class Quota:
    """A demand and the quota for it; `is_known` is False if `value` is only the documented default."""

    demand: Demand
    value: float
    is_known: bool
    origin: str

    @property
    def is_exceeded(self) -> bool:
        """Whether the jobs ask for more than the quota."""
        return self.demand.needed > self.value

    def __str__(self) -> str:
        demand = self.demand
        needed = f"{demand.what}: {demand.needed:,} needed ({demand.reason})"
        return f"{needed}, the quota is {self.value:,.0f} ({self.origin})"

    def fix(self) -> str:
        """Return the command that raises the quota, and the settings that lower the demand."""
        demand = self.demand
        return (
            f"aws service-quotas request-service-quota-increase --service-code {demand.service} --quota-code "
            f"{demand.code} --desired-value {demand.needed}, or {demand.fix}"
        )


def quotas(deployment: Deployment) -> Iterator[Quota]:
    """Yield every demand of the deployment with the quota of the account, or with the documented default.

    Raises:
        BucketwheelError: there are no valid credentials.
    """
    aws = deployment.settings.aws
    client = clients.client("service-quotas", aws.model_copy(update={"attempts": min(aws.attempts, _ATTEMPTS)}))
    for demand in demands(deployment):
        yield _quota(client, demand)


def _quota(client: Any, demand: Demand) -> Quota:
    thing = f"quota {demand.code} of {demand.service}"
    arguments = {"ServiceCode": demand.service, "QuotaCode": demand.code}
    try:
        with wrap_aws_errors(BucketwheelError, thing):
            try:
                quota, origin = client.get_service_quota(**arguments)["Quota"], "of this account"
            except client.exceptions.NoSuchResourceException:
                # Service Quotas stores no value of its own for some quotas that the account never changed.
                quota, origin = client.get_aws_default_service_quota(**arguments)["Quota"], "AWS's default"
    except BucketwheelError as error:
        cause = error.__cause__ or error
        if lacks_credentials(cause):
            raise
        reason = "Service Quotas denied the call" if is_denied(cause) else "Service Quotas did not answer"
        return Quota(demand, demand.default, False, f"the documented default, because {reason}; {demand.page}")
    return Quota(demand, float(quota["Value"]), True, origin)


def warnings(deployment: Deployment) -> list[str]:
    """Return a line for every quota that the jobs exceed."""
    return [f"warning: {quota}; {quota.fix()}" for quota in quotas(deployment) if quota.is_exceeded]
