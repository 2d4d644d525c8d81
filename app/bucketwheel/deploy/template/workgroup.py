"""The Athena workgroup: one encrypted location for results, and a limit of scanned bytes."""

from __future__ import annotations

from typing import Any

from bucketwheel.deploy.template.deployment import Deployment, Resources


def workgroup(deployment: Deployment) -> Resources:
    """Return the workgroup, unless it is `primary`, which every account has."""
    if not deployment.makes_workgroup:
        return {}
    athena = deployment.settings.athena
    encryption: dict[str, Any] = {"EncryptionOption": "SSE_S3"}
    if deployment.key is not None:
        encryption = {"EncryptionOption": "SSE_KMS", "KmsKey": deployment.key}
    properties = {
        "Name": athena.workgroup,
        "Description": f"Queries of {deployment.stack}",
        "State": "ENABLED",
        "WorkGroupConfiguration": {
            "EnforceWorkGroupConfiguration": True,
            "PublishCloudWatchMetricsEnabled": True,
            "BytesScannedCutoffPerQuery": athena.bytes_limit,
            "EngineVersion": {"SelectedEngineVersion": "Athena engine version 3"},
            "ResultConfiguration": {
                "OutputLocation": f"{deployment.query_results().uri}/",
                "EncryptionConfiguration": encryption,
            },
        },
        "Tags": deployment.tags(),
    }
    return {"Workgroup": {"Type": "AWS::Athena::WorkGroup", "Properties": properties}}
