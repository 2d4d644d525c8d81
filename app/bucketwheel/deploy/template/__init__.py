"""The CloudFormation template, one file per concern."""
