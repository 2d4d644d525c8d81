"""Render, apply and remove the CloudFormation stack of an environment.

`template/` builds the template, one plain function per concern. Only `stack.py`, `cloudformation.py`,
`keys.py`, `key_policy.py` and `name_conflicts.py` call AWS.
"""
