"""Why clicks do not become masks: everything between Label Studio and MaskLoop that goes wrong in practice."""

from __future__ import annotations

from collections.abc import Iterator

from maskloop.labelstudio.checkup.finding import Door, Finding, See, Verdict, problem, same_place
from maskloop.labelstudio.checkup.project import ProjectCheckup
from maskloop.labelstudio.checkup.servers import examine_addresses, examine_backend, examine_studio
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.connections import Connections
from maskloop.labelstudio.records import LabelStudioError

__all__ = ["Door", "Finding", "See", "Verdict", "examine"]


def examine(
    url: str, api_key: str, door: Door, see: See, project: int | None = None, fix: bool = False
) -> Iterator[Finding]:
    """Look at one Label Studio, one MaskLoop and what connects them.

    Args:
        see: how MaskLoop fetches images.
        project: the project to look at; None: every project that is connected to ``door.url``.
        fix: put right what the API allows, instead of only saying it.
    """
    yield from examine_backend(door)
    findings = list(examine_studio(url, api_key))
    yield from findings
    if any(finding.verdict is Verdict.PROBLEM for finding in findings):
        return
    client = LabelStudioClient(url, api_key)
    try:
        yield from examine_addresses(client, door)
        ids = [project] if project is not None else _connected(client, door)
        if not ids:
            yield problem(
                "connection",
                f"No project is connected to {door.url}.",
                f"In the project: Settings > Model > Connect Model, URL {door.url}, 'Interactive "
                "preannotations' on. Or let `maskloop doctor --project N --fix` do it; --backend names another URL.",
            )
        for id in ids:
            yield from ProjectCheckup(client, door, id, fix).findings(see)
    except LabelStudioError as error:
        yield problem("Label Studio", str(error))


def _connected(client: LabelStudioClient, door: Door) -> list[int]:
    """Projects that have ``door.url`` among their models."""
    connections = Connections(client)
    return [id for id in client.projects() if any(same_place(b.url, door.url) for b in connections.backends(id))]
