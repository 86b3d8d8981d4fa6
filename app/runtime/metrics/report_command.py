"""``python -m app report``: the report of the run so far.

Apart from :mod:`app.runtime.metrics.report`, so that processes import that without click.
"""

import sys

import click

from app.config.loading import settings_or_exit
from app.runtime.metrics import report, report_files
from app.runtime.metrics.layout import MetricsError
from app.runtime.metrics.tables import show
from app.shared_memory_utils.segment import SegmentError


@click.command()
@click.option("--markdown", is_flag=True, help="print Markdown")
@click.option("--write", is_flag=True, help="also write the report's files")
def command(markdown: bool, write: bool) -> int:
    """Exit code 0; 1 if there is nothing to read; 2 for invalid settings."""
    settings = settings_or_exit("report")
    try:
        found = report.collect(settings)
        if markdown:
            print(report.to_markdown(found), end="")
        else:
            show(*report.blocks(found), file=sys.stdout)
        if write:
            print(report_files.write(found, settings.output_dir))
    except (MetricsError, SegmentError, OSError) as error:
        print(f"report: {error}", file=sys.stderr)
        return 1
    return 0
