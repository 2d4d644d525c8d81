"""Puts the application on AWS: packs it, renders and applies one CloudFormation stack, starts and follows jobs.

`template.py` joins the parts of the template, each a plain function in the file of its concern. Only `stack.py`,
`glue_runs.py` and `emr_runs.py` call AWS; nothing else here needs boto3.
"""
