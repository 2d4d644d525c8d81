"""The states of a stack: which operations each one permits, and the way out of the others."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

# An unexecuted change set created the stack; it has no resources.
REVIEW = "REVIEW_IN_PROGRESS"
ABSENT = "DELETE_COMPLETE"
# A failed import into a new stack also ends here; such a stack has no resources.
IMPORT_UNDONE = "IMPORT_ROLLBACK_COMPLETE"
# A change set can update the stack.
SETTLED = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "UPDATE_ROLLBACK_COMPLETE", "IMPORT_COMPLETE", IMPORT_UNDONE)
# The stack can only be deleted: its creation or deletion failed.
DEAD = ("ROLLBACK_COMPLETE", "CREATE_FAILED", "DELETE_FAILED", "ROLLBACK_FAILED")
DELETING = "DELETE_IN_PROGRESS"
BUSY = (
    "CREATE_IN_PROGRESS",
    "ROLLBACK_IN_PROGRESS",
    DELETING,
    "UPDATE_IN_PROGRESS",
    "UPDATE_COMPLETE_CLEANUP_IN_PROGRESS",
    "UPDATE_ROLLBACK_IN_PROGRESS",
    "UPDATE_ROLLBACK_COMPLETE_CLEANUP_IN_PROGRESS",
    "IMPORT_IN_PROGRESS",
    "IMPORT_ROLLBACK_IN_PROGRESS",
)
# A change failed; the stack stays as it is until the user continues or undoes the change.
STUCK = ("UPDATE_FAILED", "UPDATE_ROLLBACK_FAILED", "IMPORT_ROLLBACK_FAILED")
# The remedy for a resource that cannot be deleted, with its physical name.
_OBSTACLES = {
    "AWS::Athena::WorkGroup": "aws athena delete-work-group --recursive-delete-option --work-group {name}",
    "AWS::EMRServerless::Application": "aws emr-serverless stop-application --application-id {name}",
    "AWS::IAM::Role": "aws iam list-attached-role-policies --role-name {name}",
}


class StackName(NamedTuple):
    """The name of a stack, its region, and the environment that it belongs to."""

    name: str
    region: str
    env: str

    @property
    def options(self) -> str:
        """The options that select the stack for the AWS command line."""
        return f"--stack-name {self.name} --region {self.region}"

    @property
    def selection(self) -> str:
        """The options that select the stack for `bucketwheel deploy`."""
        own = f" --set deploy.stack={self.name}" if self.name != f"bucketwheel-{self.env}" else ""
        return f"--env {self.env}{own}"


class Failed(NamedTuple):
    """A resource that a change could not create, update or delete."""

    logical_id: str
    kind: str
    name: str
    reason: str

    def __str__(self) -> str:
        return f"{self.logical_id} ({self.kind}): {self.reason}"


def advice(stack: StackName, status: str, failed: Iterable[Failed] = ()) -> str:
    """Return what to do with a stack whose state permits no change, as commands.

    Args:
        stack: the stack.
        status: its state.
        failed: the resources that caused the state.
    """
    ids = " ".join(dict.fromkeys(resource.logical_id for resource in failed))
    if status == "UPDATE_FAILED":
        return f"return to the last working state: aws cloudformation rollback-stack {stack.options}"
    if status == "UPDATE_ROLLBACK_FAILED":
        command = f"aws cloudformation continue-update-rollback {stack.options}"
        skip = f"; if a resource cannot be restored, skip it: {command} --resources-to-skip {ids}" if ids else ""
        return f"fix the cause, then finish the rollback: {command}{skip}"
    if status == "IMPORT_ROLLBACK_FAILED":
        return (
            f"delete the stack: bucketwheel deploy destroy {stack.selection}; imported resources stay. Then "
            "repeat the import"
        )
    if status in DEAD:
        return f"it can only be deleted: bucketwheel deploy destroy {stack.selection}"
    cancel = f"; or cancel it: aws cloudformation cancel-update-stack {stack.options}"
    return (
        "another change is in progress; wait for it to finish (progress: aws cloudformation describe-stack-events "
        f"{stack.options}){cancel if status == 'UPDATE_IN_PROGRESS' else ''}"
    )


def undeleted(stack: StackName, failed: Iterable[Failed]) -> str:
    """Return the ways out for resources that could not be deleted, one per line."""
    resources = list({resource.logical_id: resource for resource in failed}.values())
    lines = [
        f"{resource.logical_id}: {_OBSTACLES[resource.kind].format(name=resource.name)} --region {stack.region}"
        for resource in resources
        if resource.kind in _OBSTACLES and resource.name
    ]
    again = f"bucketwheel deploy destroy {stack.selection}"
    ids = " ".join(resource.logical_id for resource in resources)
    keep = f"aws cloudformation delete-stack {stack.options} --retain-resources {ids}"
    return "\n".join(
        [
            *(["To remove the obstacles:", *lines] if lines else []),
            f"Then repeat: {again}",
            *([f"Or keep these resources and delete the rest: {keep}"] if ids else []),
        ]
    )
