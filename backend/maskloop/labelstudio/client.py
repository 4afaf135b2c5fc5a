"""What MaskLoop asks of Label Studio's API, and nothing more (on top of label-studio-sdk).

The SDK is imported when the first call is made: it takes more than a second and much memory,
and a web process that is never asked for any of this should not pay for it.
"""

from __future__ import annotations

import itertools
import json
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from functools import cached_property, partial
from typing import Any, TypeVar

from maskloop.labelstudio.records import (
    Annotation,
    Json,
    LabelStudioError,
    Missing,
    Project,
    Refused,
    StoredPrediction,
    Task,
    Unreachable,
)
from maskloop.labelstudio.tokens import token_kind

__all__ = ["LabelStudioClient", "LabelStudioError", "Missing", "Refused", "Unreachable"]

T = TypeVar("T")

PAGE = 100
DOWN = (502, 503, 504)
"""What a proxy answers for a server that restarts."""


class LabelStudioClient:
    """One Label Studio, seen with one token. Safe to share between threads.

    Every method raises :class:`Unreachable`, :class:`Refused`, :class:`Missing` or their base
    :class:`LabelStudioError`, whose messages never contain the token.

    Args:
        url: where this process reaches Label Studio, e.g. ``http://localhost:8080``.
        api_key: a personal access token (exchanged and refreshed as needed) or a legacy token.
        timeout: seconds for one request.
    """

    def __init__(self, url: str, api_key: str, timeout: float = 30.0) -> None:
        if not url:
            raise LabelStudioError(
                "LABEL_STUDIO_URL is not set: say where Label Studio is, e.g. http://localhost:8080."
            )
        if not api_key:
            raise LabelStudioError(
                "LABEL_STUDIO_API_KEY is not set: create a personal access token in Label Studio "
                "(Account & Settings > Personal Access Token) and set it."
            )
        self.url = url.rstrip("/")
        self._api_key = api_key.strip()
        self._timeout = timeout

    @cached_property
    def _sdk(self) -> Any:
        import httpx
        from label_studio_sdk import LabelStudio

        if token_kind(self._api_key) == "access":
            raise Refused(
                "LABEL_STUDIO_API_KEY is an access token, which lives five minutes: use the personal access token "
                "it was made from (Account & Settings > Personal Access Token)."
            )
        connections = httpx.Client(timeout=self._timeout, follow_redirects=True)
        weakref.finalize(self, connections.close)
        return LabelStudio(base_url=self.url, api_key=self._api_key, httpx_client=connections)

    def ask(self, what: str, call: Callable[[Any], T]) -> T:
        """The SDK's answer to ``call``, its errors turned into ours; ``what`` completes "could not ..."."""
        import httpx
        from label_studio_sdk.core.api_error import ApiError

        try:
            return call(self._sdk)
        except ApiError as error:
            detail = _detail(error.body)
            if error.status_code in (401, 403):
                raise Refused(
                    f"Label Studio at {self.url} refused to {what} (HTTP {error.status_code}: {detail}). Check "
                    "LABEL_STUDIO_API_KEY; `maskloop doctor` tells which kind of token this Label Studio takes."
                ) from error
            if error.status_code in DOWN:
                raise Unreachable(
                    f"Label Studio at {self.url} is not up: asked to {what}, HTTP {error.status_code} came back."
                ) from error
            if error.status_code == 404:
                raise Missing(f"Label Studio at {self.url} cannot {what}: it is not there.") from error
            raise LabelStudioError(
                f"Label Studio at {self.url} could not {what} (HTTP {error.status_code}: {detail})."
            ) from error
        except httpx.HTTPError as error:
            raise Unreachable(
                f"Label Studio at {self.url} did not answer when asked to {what} ({type(error).__name__}: {error}). "
                "Check LABEL_STUDIO_URL as seen from this machine or container."
            ) from error
        except ValueError as error:
            raise LabelStudioError(
                f"{self.url} answered something that is not Label Studio's API when asked to {what}: {error}"
            ) from error

    def whoami(self) -> str:
        """E-mail of the token's owner: the cheapest proof that the token works."""
        return str(self.ask("tell who the token belongs to", lambda sdk: sdk.users.whoami().email))

    def projects(self) -> list[int]:
        """Ids of the projects the token's owner can see."""
        return self.ask("list projects", lambda sdk: [int(p.id) for p in sdk.projects.list(include="id")])

    def project(self, id: int) -> Project:
        found = self.ask(f"read project {id}", lambda sdk: sdk.projects.get(id=id))
        return Project(
            id=id,
            title=found.title or "",
            label_config=found.label_config or "",
            model_version=found.model_version or "",
        )

    def task(self, id: int) -> Task:
        found = self.ask(f"read task {id}", lambda sdk: sdk.tasks.get(id=str(id)))
        return Task.of(found, int(found.project))

    def tasks(self, project: int, ids: Iterable[int] | None = None) -> Iterator[Task]:
        """Tasks of a project in the order of their ids; of ``ids`` those that exist."""
        wanted = None if ids is None else sorted(set(ids))
        if wanted is None:
            for found in self._list(project, {}, fields="task_only"):
                yield Task.of(found, project)
            return
        for start in range(0, len(wanted), PAGE):
            query = {"selectedItems": {"all": False, "included": wanted[start : start + PAGE]}}
            for found in self._list(project, query, fields="task_only"):
                yield Task.of(found, project)

    def annotation(self, id: int) -> Annotation:
        """One annotation as it is now (an event only says that it changed)."""
        found = self.ask(f"read annotation {id}", lambda sdk: sdk.annotations.get(id=id))
        return Annotation.of(found, int(found.task), int(found.project))

    def annotations(self, project: int, since: datetime | None = None) -> Iterator[Annotation]:
        """Submitted annotations of a project, skipped ones (``was_cancelled``) included.

        Args:
            since: only what changed at that time or later (aware datetime). Deletions cannot be seen.
        """
        query: Json = {}
        if since is not None:
            item = {
                "filter": "filter:tasks:updated_at",
                "operator": "greater_or_equal",
                "type": "Datetime",
                "value": since.astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            }
            query = {"filters": {"conjunction": "and", "items": [item]}}
        for task in self._list(project, query, fields="all"):
            for raw in task.annotations or []:
                found = Annotation.of(raw, int(task.id), project)
                if since is None or found.updated_at >= since:
                    yield found

    def predictions(self, task_id: int) -> list[StoredPrediction]:
        """What any model has predicted for a task, oldest first."""
        found = self.ask(f"list predictions of task {task_id}", lambda sdk: sdk.predictions.list(task=task_id))
        return sorted((StoredPrediction.of(one, task_id) for one in found), key=lambda one: one.id)

    def push_prediction(self, task_id: int, result: Sequence[Json], score: float, version: str) -> bool:
        """Store a prediction unless the task has one of that version already.

        Safe to repeat: running the same batch again stores nothing twice.

        Returns:
            True when it was stored, False when it was there.
        """
        if any(p.model_version == version for p in self.predictions(task_id)):
            return False
        self.ask(
            f"store a prediction of task {task_id}",
            lambda sdk: sdk.predictions.create(task=task_id, result=list(result), score=score, model_version=version),
        )
        return True

    def next_task_ids(self, project: int, after_task: int, count: int) -> list[int]:
        """The tasks a person is likely to see next, in that order.

        A Data Manager tab that is sorted (by prediction score, say) hands out its first unlabelled
        tasks; an unsorted one goes on by id.
        """
        if count <= 0:
            return []
        items = [{"filter": "filter:tasks:total_annotations", "operator": "equal", "type": "Number", "value": 0}]
        ordering = self._first_tab_ordering(project)
        if not ordering:
            items.append({"filter": "filter:tasks:id", "operator": "greater", "type": "Number", "value": after_task})
        query: Json = {"filters": {"conjunction": "and", "items": items}, "ordering": ordering or ["tasks:id"]}
        found: list[int] = []
        for task in self._list(project, query, fields="task_only", page_size=min(PAGE, count + 1)):
            if int(task.id) != after_task:
                found.append(int(task.id))
            if len(found) == count:
                break
        return found

    def _first_tab_ordering(self, project: int) -> list[str]:
        views = self.ask(f"list the tabs of project {project}", lambda sdk: sdk.views.list(project=project))
        data = getattr(min(views, key=lambda v: int(v.id), default=None), "data", None)
        ordering = getattr(data, "ordering", None) if not isinstance(data, Mapping) else data.get("ordering")
        return [str(field) for field in ordering or []]

    def _list(self, project: int, query: Json, fields: str, page_size: int = PAGE) -> Iterator[Any]:
        """Tasks of a project that match a Data Manager query, page by page."""
        query = {"ordering": ["tasks:id"], **query}
        for page in itertools.count(1):
            asked = {"project": project, "page": page, "page_size": page_size, "fields": fields}
            try:
                found = self.ask(f"list the tasks of project {project}", partial(_page, asked, json.dumps(query)))
            except Missing:
                if page == 1:
                    raise
                return  # the last page was full: Label Studio answers 404 to the one after it
            yield from found
            if len(found) < page_size:
                return


def _page(asked: Json, query: str, sdk: Any) -> list[Any]:
    return list(sdk.tasks.list(**asked, query=query, resolve_uri=False).items or [])


def _detail(body: object) -> str:
    if isinstance(body, Mapping):
        body = body.get("validation_errors") or body.get("detail") or body
    return str(body)[:300]
