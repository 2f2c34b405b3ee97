"""``sightline embed``: embed images into parquet shards, on one machine or a Ray cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from sightline.server.commands.common import (
    device_option,
    dtype_option,
    json_option,
    print_json,
    quiet_option,
    say,
    stopping,
)
from sightline.server.commands.progress import shown

if TYPE_CHECKING:
    from sightline.indexer.shards.ray_run import EmbedReport


@click.command()
@click.argument("sources", metavar="SOURCE...", nargs=-1, required=True)
@click.option(
    "--output",
    required=True,
    metavar="DIR",
    help="The folder of the shards, or its URL, such as s3://bucket/shards.",
)
@click.option(
    "--ray-address",
    metavar="ADDR",
    help="A Ray cluster, host:port.  [default: this machine]",
)
@click.option("--model", help="A name from `sightline models`, a hub id or a folder.")
@click.option(
    "--cpus-per-task",
    "cpus",
    type=click.FloatRange(min=0, min_open=True),
    default=1.0,
    show_default=True,
    help="Cores per shard; also the number of its decoding processes.",
)
@click.option(
    "--gpus-per-task",
    "gpus",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    help="GPUs per shard; with 0.5, two shards share one.",
)
@click.option(
    "--wait-for-nodes",
    "joining",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=300.0,
    show_default=True,
    help="How long to wait for the cluster to add a node with these resources.",
)
@click.option(
    "--shard-size",
    type=click.IntRange(1, 100_000),
    default=2048,
    show_default=True,
    help="Images per shard; a node that fails loses its current shard.",
)
@click.option("--no-thumbnails", is_flag=True, help="Make no thumbnails; they take 1 kB per image.")
@click.option(
    "--exclude",
    multiple=True,
    metavar="PATTERN",
    help="Exclude files that match a .gitignore pattern; repeatable.",
)
@click.option(
    "--include-nomedia", is_flag=True, help="Embed folders that hold a .nomedia file too."
)
@click.option(
    "--retry-failures",
    is_flag=True,
    help="Read all failed files again; those with a transient error are read again anyway.",
)
@quiet_option
@device_option
@dtype_option
@json_option
def embed(
    sources: tuple[str, ...],
    output: str,
    ray_address: str | None,
    model: str | None,
    cpus: float,
    gpus: float,
    joining: float,
    shard_size: int,
    no_thumbnails: bool,
    exclude: tuple[str, ...],
    include_nomedia: bool,
    retry_failures: bool,
    quiet: bool,
    device: str,
    dtype: str,
    as_json: bool,
) -> int:
    """Embed images into parquet shards, on one machine or on a Ray cluster.

    \b
    sightline embed ~/Pictures --output shards
    sightline embed s3://bucket/tars --output s3://bucket/shards --ray-address 10.0.0.5:6379
    sightline import shards

    A SOURCE is a folder, an image, a WebDataset archive (.tar), or the URL of one of these.
    Existing shards are skipped: the same command continues an interrupted run.
    """
    from sightline.indexer.indexing.encoders import load_encoder
    from sightline.indexer.shards import ray_run

    encoder = load_encoder(model, device=device, dtype=dtype)
    with stopping() as stop, shown(quiet=quiet) as progress:
        report = ray_run.embed(
            sources,
            output,
            encoder=encoder,
            address=ray_address,
            cpus=cpus,
            gpus=gpus,
            shard_size=shard_size,
            thumbnails=not no_thumbnails,
            exclude=exclude,
            include_nomedia=include_nomedia,
            retry_failures=retry_failures,
            joining=joining,
            progress=progress,
            warn=lambda line: say(f"warning: {line}"),
            stop=stop,
        )
    if as_json:
        print_json(as_dict(report))
    else:
        print_report(report)
    return 1 if report.shards_failed or report.interrupted else 0


def as_dict(report: EmbedReport) -> dict[str, Any]:
    """The document that ``embed --json`` prints."""
    return {
        "output": report.output,
        "model": report.model,
        "embedded": report.embedded,
        "failed": report.failed,
        "failures": report.failures,
        "shards": report.shards,
        "shards_before": report.shards_before,
        "retried": report.retried,
        "shards_failed": [
            {"shard": number, "reason": reason} for number, reason in report.shards_failed
        ],
        "workers": report.workers,
        "load_seconds": round(report.load_seconds, 3),
        "interrupted": report.interrupted,
        "seconds": round(report.seconds, 3),
        "images_per_second": round(report.images_per_second, 2),
    }


def print_report(report: EmbedReport) -> None:
    """Prints a summary of the run."""
    click.echo(
        f"{report.embedded:,} images embedded in {report.shards:,} shards"
        f" ({report.shards_before:,} existed already) by {report.workers} workers:"
        f" {report.images_per_second:,.1f} images/s, {report.seconds:.1f} s"
    )
    if report.retried:
        say(f"{report.retried:,} files that could not be read before were read again")
    if report.failures:
        say(f"{report.failures:,} files could not be read: see {report.output}/failures.parquet")
    for number, reason in report.shards_failed[:10]:
        say(f"shard {number} failed: {reason}")
    if report.shards_failed or report.interrupted:
        say("run the same command again to continue")
