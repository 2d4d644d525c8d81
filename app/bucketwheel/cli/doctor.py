"""The command that checks everything a run needs."""

from __future__ import annotations

import click

from bucketwheel.cli.options import Overrides, choosing, engine_setting, output_option, print_json
from bucketwheel.cli.terminal import echo
from bucketwheel.errors import BucketwheelError
from bucketwheel.formatting import counted


@click.command()
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30,
    show_default=True,
    metavar="SECONDS",
    help="Time limit for all checks together.",
)
@click.option(
    "--first-run",
    is_flag=True,
    help="Print what to try on the first run on AWS, with the documents that it rests on; checks nothing.",
)
@output_option
@choosing
def doctor(
    env: str,
    conf: str | None,
    overrides: Overrides,
    engine: str | None,
    timeout: float,
    first_run: bool,
    output: str,
) -> None:
    """Check what runs and jobs need, on this machine and on AWS, and say how to fix it; changes nothing."""
    from bucketwheel import api
    from bucketwheel.cli.text import findings_text, first_run_text

    if first_run:
        items = api.first_run(env, conf, [*overrides, *engine_setting(engine)])
        if output == "json":
            print_json([vars(item) for item in items])
        else:
            echo(first_run_text(items))
        return
    findings = api.doctor(env, conf, [*overrides, *engine_setting(engine)], seconds=timeout)
    if output == "json":
        print_json([vars(finding) for finding in findings])
    else:
        rows = [(finding.name, finding.state, finding.found, finding.todo) for finding in findings]
        echo(findings_text(rows))
    failed = [finding.name for finding in findings if finding.state == "failed"]
    if failed:
        raise BucketwheelError(f"{len(failed)} of {counted(len(findings), 'check')} failed: {', '.join(failed)}")
