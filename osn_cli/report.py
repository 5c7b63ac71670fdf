"""`osn report`: everything in the workspace on a single page."""

from osn_cli.session import Session


def run(session: Session) -> None:
    """Write report.html from the results that exist. Nothing is computed; what is missing or out of date is marked as such."""
    from pipelines.reporting.findings import STAGES, read_findings
    from pipelines.reporting.report import ReportConfig, write_report
    from pipelines.stage import StageContext

    run, memory = session.prepare(STAGES)
    outdated = {stage.name: verdict.reason for stage, verdict in run.plan(STAGES) if not verdict.hit}
    with run.workspace.lock():
        found = read_findings(run.workspace, source=memory["source"], outdated=outdated, device=run.device)
        config = ReportConfig(meshing=run.config.export.meshing)
        # Meshes are shared with the export: whoever comes first makes them.
        context = StageContext(session.folder, run.workspace.items("export"), session.console, run.device)
        path = write_report(config, found, session.folder / "report.html", context=context)
    session.console.say(f"report: {path}")
    session.console.result({"report": str(path), "bytes": path.stat().st_size})
