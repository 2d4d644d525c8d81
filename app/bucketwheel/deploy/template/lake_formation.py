"""The grants of Lake Formation for the role of the jobs, in addition to its policy in IAM."""

from __future__ import annotations

from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources, arn_of, bucket_arn, object_arn, ref


def grants(deployment: Deployment) -> Resources:
    """Return the grants of `catalog.lake_formation`; none for other catalogs."""
    catalog = deployment.settings.catalog
    if catalog.kind != "glue":
        return {}
    database, target, own = catalog.database.lower(), deployment.target(), {"CatalogId": ref("AWS::AccountId")}
    reads = ["SELECT"] if deployment.uses_athena() else []
    location = object_arn(target) if target.prefix else bucket_arn(target.bucket)
    every = {
        "database": _grant(["CREATE_TABLE", "DESCRIBE"], {"Database": {**own, "Name": database}}),
        "tables": _grant(
            ["ALTER", "DESCRIBE", "DROP", *reads],
            {"Table": {**own, "DatabaseName": database, "TableWildcard": {}}},
        ),
        "locations": _grant(["DATA_LOCATION_ACCESS"], {"DataLocation": {**own, "ResourceArn": location}}),
    }
    return {f"Lake{kind.capitalize()}": every[kind] for kind in every if kind in catalog.lake_formation}


def _grant(permissions: list[str], resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "Type": "AWS::LakeFormation::PrincipalPermissions",
        "Properties": {
            "Catalog": ref("AWS::AccountId"),
            "Principal": {"DataLakePrincipalIdentifier": arn_of("JobRole")},
            "Permissions": permissions,
            "PermissionsWithGrantOption": [],
            "Resource": resource,
        },
    }
