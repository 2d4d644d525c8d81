"""`deploy apply` refuses grants of Lake Formation on missing resources before it creates anything."""

from __future__ import annotations

from typing import Any

import pytest
from moto_account import Account

from bucketwheel.aws import clients
from bucketwheel.errors import DeployError
from fake_iam import Refuses

pytestmark = pytest.mark.filterwarnings("ignore:Tried to parse AWS")
LAKE: dict[str, Any] = {"catalog.create_database": False, "catalog.lake_formation": "database,locations"}
TARGET = "arn:aws:s3:::omc-flywheel-data-us-east-1-prod/omc_cleanroom_data"


def test_apply_without_database_and_location_creates_nothing(account: Account) -> None:
    with pytest.raises(DeployError) as refused:
        account.apply(**LAKE)
    first, second = str(refused.value).splitlines()
    assert first.startswith("catalog.lake_formation=database, but database omc_flywheel_prod does not exist; create")
    assert second.startswith(f"catalog.lake_formation=locations, but the target {TARGET} is not registered")
    assert f"aws lakeformation register-resource --resource-arn {TARGET} --use-service-linked-role" in second
    assert (account.status(), account.asked) == (None, [])


def test_apply_with_database_and_location_is_done(account: Account) -> None:
    account.client("glue").create_database(DatabaseInput={"Name": "omc_flywheel_prod"})
    account.client("lakeformation").register_resource(ResourceArn=TARGET, UseServiceLinkedRole=True)
    assert account.apply(**LAKE).done


@pytest.mark.parametrize(
    ("service", "operation", "method"),
    [("lakeformation", "ListResources", "list_resources"), ("glue", "GetDatabase", "get_database")],
)
def test_apply_by_denied_caller_warns(
    account: Account, monkeypatch: pytest.MonkeyPatch, service: str, operation: str, method: str
) -> None:
    account.client("glue").create_database(DatabaseInput={"Name": "omc_flywheel_prod"})
    client = clients.client(service, account.configuration().settings.aws)
    refused = Refuses(operation, method, "AccessDeniedException")
    monkeypatch.setattr(client, method, getattr(refused, method))
    assert account.apply(**LAKE).done
    assert account.said[0].startswith("warning: the resources of catalog.lake_formation are not checked: ")
