"""Making a version current, by the gate or by a person, so that everybody knows."""

from __future__ import annotations

import logging
from collections.abc import Container

from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.connections import Connections
from maskloop.labelstudio.records import LabelStudioError, Unreachable
from maskloop.learn.versions import Versions
from maskloop.ledger import Ledger
from maskloop.settings import Settings

log = logging.getLogger(__name__)


def promote(
    settings: Settings,
    ledger: Ledger,
    versions: Versions,
    project: int,
    version: str,
    by: str,
    instead_of: Container[str] | None = None,
) -> str:
    """Make a version current; what was current before. May be done again after a crash.

    Raises VersionError, and Overtaken when neither it nor one of ``instead_of`` is current.
    """
    previous = versions.promote(project, version, instead_of)
    known = ledger.promotions(project)
    told = known[0].version if known else versions.base
    if previous != version:
        _tell(settings, ledger, project, version, previous, by)
    elif told != version:  # made current by one that was killed before it told anybody
        _tell(settings, ledger, project, version, told, by)
    elif by == "person":  # who promotes what is current already wants Label Studio to know it
        reached = _choose(settings, project, version)
        if known:
            ledger.record_told(known[0], reached)
    return previous


def rollback(settings: Settings, ledger: Ledger, versions: Versions, project: int) -> str:
    """Make the version before the current one current again; its name. Raises VersionError."""
    previous = versions.current(project)
    version = versions.rollback(project)
    _tell(settings, ledger, project, version, previous, "rollback")
    return version


def tell_again(settings: Settings, ledger: Ledger) -> None:
    """Tell Label Studio what is current in the projects where it was away when that was decided."""
    for promotion in ledger.untold():
        if not _choose(settings, promotion.project, promotion.version):
            return  # still away: every other project would wait for its answer too
        ledger.record_told(promotion, True)


def _tell(settings: Settings, ledger: Ledger, project: int, version: str, previous: str, by: str) -> None:
    log.info("project %d: %s is current (by %s), was %s", project, version, by, previous)
    told = _choose(settings, project, version)
    # Last: until it is in the ledger, all of this is done again.
    ledger.record_promotion(project, version, previous, by, told)


def _choose(settings: Settings, project: int, version: str) -> bool:
    """Make it the version whose predictions Label Studio shows; False when that has to be tried again."""
    key = settings.label_studio_api_key.get_secret_value()
    if settings.sync_model_version and settings.label_studio_url and key:
        auth = (settings.basic_auth_user, settings.basic_auth_pass.get_secret_value())
        client = LabelStudioClient(settings.label_studio_url, key)
        try:
            Connections(client).choose_version(project, version, auth if settings.has_credentials else None)
        except Unreachable as error:
            # The version serves all the same; only Label Studio's score column still shows the old one.
            log.warning("project %d: Label Studio's model version was not set yet: %s", project, error)
            return False
        except LabelStudioError as error:
            log.warning(
                "project %d: Label Studio's model version was not set: %s. Later: maskloop promote %s --project %d",
                project, error, version, project,
            )  # fmt: skip
    return True
