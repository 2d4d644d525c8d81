"""Deterministic simulation of concurrent commands: real commands, simulated S3, Glue, clock and faults.

A seed determines a schedule. Each command runs in a thread of its own, and exactly one of them runs at a time. Every
call to S3, to Glue or to `Clock.sleep` is a step: the scheduler may let another command continue, advance the clock,
lose the response, throttle the call, or kill the command. A killed command does not return: every later call raises.
"""
