"""The package that Glue and EMR Serverless run: wheel, script, configuration and Python environment."""
