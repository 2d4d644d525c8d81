"""Start a job on Glue or EMR Serverless and follow it to its end."""
