"""`dermstation bench`: how fast the model is on this machine, and what that means for a clinic."""

import json
from datetime import UTC, datetime
from pathlib import Path

import click

from appliance import huge_pages


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="Model bundle; the demonstration bundle by default.")
@click.option("--runs", type=click.IntRange(min=1), default=3, show_default=True, help="Rounds; medians are shown.")
@click.option("--threads", type=click.IntRange(min=1), help="Compute threads; one a core by default.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object with every run.")
def bench(bundle: Path | None, runs: int, threads: int | None, *, as_json: bool) -> None:
    """Measure how fast the model is on this machine, and say what that means for a clinic."""
    huge_pages.start_anew()  # as the service has them
    from appliance.benchmark.bandwidth import read_bandwidth_gb_per_s
    from appliance.benchmark.machine import describe_machine, load_average, peak_rss_bytes, read_climate
    from appliance.benchmark.model import measure_run, weight_bytes_per_token
    from appliance.benchmark.summary import Measured, page
    from appliance.demo import bundle_path
    from appliance.medgemma.engine import MedGemma, RuntimeOptions
    from appliance.medgemma.sessions import available_cores

    cores = threads or available_cores()
    load_before, climate_before = load_average(), read_climate()
    with MedGemma.load(bundle or bundle_path(), RuntimeOptions(threads=cores)) as model:
        model.prepare()
        found = []
        for number in range(runs):
            click.echo(f"run {number + 1} of {runs} ...", err=True)
            found.append(measure_run(model, seed=number))
        manifest = model.bundle.manifest
        peak_bytes, climate_after = peak_rss_bytes(), read_climate()
        measured = Measured(
            at=datetime.now(UTC).isoformat(timespec="seconds"),
            machine=describe_machine(),
            bundle=manifest.name,
            warning=manifest.warning,
            disk_bytes=sum(record.size_bytes for record in manifest.files.values()),
            providers=tuple(model.providers),
            threads=cores,
            load_before=load_before,
            climate_before=climate_before,
            climate_after=climate_after,
            load_s=model.load_s,
            peak_rss_bytes=peak_bytes,
            weight_bytes=weight_bytes_per_token(model.bundle),
            # Last: its blocks would count as the model's memory.
            bandwidth_gb_per_s=read_bandwidth_gb_per_s(cores),
            runs=tuple(found),
        )
    click.echo(json.dumps(measured.to_json(), ensure_ascii=False, indent=2) if as_json else page(measured))
