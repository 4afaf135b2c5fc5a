"""How a Label Studio and a MaskLoop are tied together: ML backends and webhooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.records import Backend, Json, LabelStudioError, Refused, Unreachable, Webhook


class Connections:
    """The ML backends and webhooks of a Label Studio. Raises the errors of its client."""

    def __init__(self, client: LabelStudioClient) -> None:
        self._ask = client.ask

    def webhooks(self, project: int) -> list[Webhook]:
        """The webhooks that fire for a project: its own and those of the organization."""
        found = self._ask("list webhooks", lambda sdk: sdk.webhooks.list())
        return [
            Webhook(
                id=int(w.id),
                project=w.project,
                url=w.url,
                headers=dict(w.headers or {}),
                is_active=w.is_active is not False,
                send_payload=w.send_payload is not False,
                actions=None if w.send_for_all_actions is not False else frozenset(str(a) for a in w.actions or []),
            )
            for w in found
            if w.project in (None, project)
        ]

    def create_webhook(self, project: int, url: str, headers: Mapping[str, str]) -> None:
        """Have every event of the project sent to ``url`` with these headers."""
        body = {
            "url": url,
            "project": project,
            "headers": dict(headers),
            "send_payload": True,
            "send_for_all_actions": True,
        }
        self._ask(f"create a webhook for project {project}", lambda sdk: sdk.webhooks.create(**body))

    def repair_webhook(self, webhook: Webhook, headers: Mapping[str, str]) -> None:
        """Switch it on, for all events with their content, and add headers to those it has."""
        body = {
            "url": webhook.url,
            "headers": {**webhook.headers, **headers},
            "is_active": True,
            "send_payload": True,
            "send_for_all_actions": True,
        }
        self._ask(f"change webhook {webhook.id}", lambda sdk: sdk.webhooks.update(id=webhook.id, **body))

    def backends(self, project: int) -> list[Backend]:
        """The ML backends of a project, the one that gets batch predictions first."""
        found = self._ask(f"list the backends of project {project}", lambda sdk: sdk.ml.list(project=project))
        return [
            Backend(
                id=int(b.id),
                project=project,
                url=b.url,
                title=b.title or "",
                state=str(b.state or ""),
                error=b.error_message or "",
                is_interactive=bool(b.is_interactive),
                basic_auth_user=b.basic_auth_user or "",
                model_version=b.model_version or "",
            )
            for b in found
        ]

    def connect(self, project: int, url: str, auth: tuple[str, str] | None = None) -> None:
        """Make ``url`` an interactive ML backend of the project (Label Studio adds its webhook)."""
        body = {"project": project, "url": url, "title": "MaskLoop", "is_interactive": True, **_basic_auth(auth)}
        self._ask(f"connect the backend {url}", lambda sdk: sdk.ml.create(**body))

    def make_interactive(self, backend: Backend, auth: tuple[str, str] | None = None) -> None:
        """Let a connected backend answer clicks."""
        change = {"project": backend.project, "url": backend.url, "is_interactive": True, **_basic_auth(auth)}
        self._ask(f"change backend {backend.id}", lambda sdk: sdk.ml.update(id=backend.id, **change))

    def choose_version(self, project: int, version: str, auth: tuple[str, str] | None = None) -> None:
        """Choose the version whose scores the Data Manager shows and sorts by.

        Label Studio takes the name of a version that some prediction carries already, or the title
        of a connected model. For a version that has not predicted yet the model gets its name as title.

        Args:
            auth: user and password of MaskLoop itself, if it asks for them: Label Studio does not use
                those it has stored when a connection is changed.
        """

        def choose(sdk: Any) -> None:
            sdk.projects.update(id=project, model_version=version)

        def rename(sdk: Any) -> None:
            for backend in sdk.ml.list(project=project):
                if backend.model_version == version:
                    change = {"project": project, "url": backend.url, "title": version, **_basic_auth(auth)}
                    sdk.ml.update(id=backend.id, **change)

        what = f"set the model version of project {project}"
        try:
            self._ask(what, choose)
        except (Refused, Unreachable):
            raise
        except LabelStudioError:
            self._ask(what, rename)
            self._ask(what, choose)

    def blocks_backend(self, url: str) -> bool:
        """Whether this Label Studio refuses to call a backend there because its address is private.

        Asks for a backend of no project, which is refused in any case: nothing is created.
        """
        return self._blocks(lambda sdk: sdk.ml.create(project=None, url=url))

    def blocks_webhook(self, url: str) -> bool:
        """The same for a webhook (it is another setting); asks for one of an impossible action."""
        return self._blocks(lambda sdk: sdk.webhooks.create(url=url, actions=["NONE"]))

    def _blocks(self, call: Callable[[Any], object]) -> bool:
        try:
            self._ask("check an address", call)
        except Refused as error:
            if "reserved network address" in str(error):
                return True
            raise
        except LabelStudioError as error:
            if "HTTP 400" not in str(error):
                raise
        return False


def _basic_auth(auth: tuple[str, str] | None) -> Json:
    """The fields of a connection that let Label Studio log in to MaskLoop."""
    if auth is None:
        return {}
    return {"auth_method": "BASIC_AUTH", "basic_auth_user": auth[0], "basic_auth_pass": auth[1]}
