"""`dermstation doctor`: what this machine has, what is wrong with it, and what to do."""

import dataclasses
import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

import appliance
from appliance.config import Config, load_config
from appliance.errors import BundleError, ConfigurationError
from appliance.host.check import Check, Verdict, ok, problem, worst

SETTINGS: Final = Path("/etc/dermstation/dermstation.toml")
RECORDS: Final = Path("/var/lib/dermstation")
_MARKS: Final[dict[Verdict, str]] = {"ok": "ok     ", "warning": "WARNING", "problem": "PROBLEM"}
_COLOURS: Final[dict[Verdict, str]] = {"ok": "green", "warning": "yellow", "problem": "red"}


@click.command()
@click.option(
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    help=f"Settings file; {SETTINGS} where it exists, else the defaults.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def doctor(ctx: click.Context, /, *, config: Path | None, as_json: bool) -> None:
    """Say what this machine has, what is wrong with it, and what to do; status 1 when there is a problem."""
    checks = examine(config or (SETTINGS if SETTINGS.exists() else None))
    verdict = worst(checks)
    if as_json:
        content = {"verdict": verdict, "checks": [dataclasses.asdict(check) for check in checks]}
        click.echo(json.dumps(content, ensure_ascii=False, indent=2))
    else:
        for check in checks:
            click.echo(f"{click.style(_MARKS[check.verdict], fg=_COLOURS[check.verdict])}  {check.name}: {check.found}")
            if check.action:
                click.echo(f"         -> {check.action}")
    ctx.exit(1 if verdict == "problem" else 0)


def examine(settings: Path | None) -> list[Check]:
    """Run every check, in the order in which a technician would ask."""
    from appliance.host import machine_checks, network_checks, runtime_checks, storage_checks
    from appliance.medgemma.openvino_tower import multiplies_bfloat16, openvino_version
    from appliance.records.database import durability_for
    from appliance.records.dating import RELEASED_AT
    from appliance.records.words import words_from_bytes

    config, settings_check = _settings(settings)
    bundle_check, engine_bytes = _bundle(config)
    probed = runtime_checks.run_probe()
    return [
        machine_checks.check_python(),
        settings_check,
        runtime_checks.check_distributions(
            runtime_checks.installed_runtimes(), None if isinstance(probed, str) else probed
        ),
        runtime_checks.check_providers(probed, config.engine.provider),
        runtime_checks.check_openvino(openvino_version(), config.engine.provider, multiplies_bfloat16),
        bundle_check,
        machine_checks.check_memory(engine_bytes),
        machine_checks.check_cores(),
        machine_checks.check_disk(RECORDS),
        storage_checks.check_records(durability_for(sqlite3.sqlite_version_info).journal_mode),
        machine_checks.check_clock(datetime.now(UTC)),
        machine_checks.check_cameras(),
        machine_checks.check_serial_ports(),
        machine_checks.check_mdns_port(),
        network_checks.check_phones(config, datetime.now(UTC), RELEASED_AT, words_from_bytes),
    ]


def _settings(path: Path | None) -> tuple[Config, Check]:
    try:
        config = load_config(path)
    except ConfigurationError as error:
        return Config(), problem("Settings", str(error), "Correct that line; the services do not start until then.")
    return config, ok("Settings", str(path) if path else "defaults; there is no settings file")


def _bundle(config: Config) -> tuple[Check, int]:
    """Check every file of the model against its digest, as the engine will."""
    from appliance.medgemma.bundle import load_bundle
    from appliance.medgemma.openvino_tower import tower_runtimes
    from appliance.medgemma.plan import plan_memory

    path = Path(config.engine.bundle or Path(appliance.__path__[0], "demo", "bundle"))
    try:
        bundle = load_bundle(path)
    except BundleError as error:
        return problem("Model", str(error), "Export or copy the bundle again; until then there are no answers."), 0
    size_bytes = sum(record.size_bytes for record in bundle.manifest.files.values())
    warned = f"; {bundle.manifest.warning}" if bundle.manifest.warning else ""
    try:
        towers = tower_runtimes(config.engine.provider, bundle.manifest)
    except BundleError as error:
        return problem("Model", str(error), "Set engine.provider to auto; until then there are no answers."), 0
    plan = plan_memory(bundle.manifest, None, context_length=config.engine.context_length, towers=towers)
    return ok("Model", f"{bundle.manifest.name}, {size_bytes / 1e6:.0f} MB, whole{warned}"), plan.peak_bytes
