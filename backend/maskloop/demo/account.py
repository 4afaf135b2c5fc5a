"""Label Studio as a person sees it who logs in with a password: for setting up what a token cannot yet."""

from __future__ import annotations

import re
from typing import Any

import requests


class Account:
    """A logged-in session: works whatever kinds of token the organization allows.

    Args:
        new: sign up first.

    Raises:
        RuntimeError: the login failed, or Label Studio refused a call.
    """

    def __init__(self, url: str, email: str, password: str, new: bool = False) -> None:
        self.url = url.rstrip("/")
        self._session = requests.Session()
        form = f"{self.url}/user/{'signup' if new else 'login'}/"
        page = self._session.get(form, timeout=30)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        answer = self._session.post(
            form,
            data={"email": email, "password": password, "csrfmiddlewaretoken": token.group(1) if token else ""},
            headers={"Referer": form},
            allow_redirects=False,
            timeout=30,
        )
        if answer.status_code != 302:
            raise RuntimeError(f"{self.url} did not let {email} in (HTTP {answer.status_code}).")

    def close(self) -> None:
        self._session.close()

    def call(self, method: str, path: str, timeout: float = 120, **request: Any) -> Any:
        """The JSON answer of an API call (None where there is none)."""
        headers = {"X-CSRFToken": self._session.cookies.get("csrftoken") or "", "Referer": self.url}
        answer = self._session.request(method, self.url + path, headers=headers, timeout=timeout, **request)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: HTTP {answer.status_code} {answer.text[:400]}")
        return answer.json() if answer.content else None

    def personal_token(self) -> str:
        """A new personal access token (Label Studio shows each only once, and has one a user)."""
        return str(self.call("POST", "/api/token/")["token"])

    def create_project(self, title: str, label_config: str, **more: Any) -> int:
        body = {"title": title, "label_config": label_config, **more}
        return int(self.call("POST", "/api/projects/", json=body)["id"])

    def upload(self, project: int, name: str, content: bytes) -> None:
        """Add one image as a task."""
        self.call("POST", f"/api/projects/{project}/import", files={"file": (name, content)})

    def task_ids(self, project: int) -> list[int]:
        tasks = self.call("GET", f"/api/tasks/?project={project}&page_size=1000")["tasks"]
        return sorted(int(task["id"]) for task in tasks)

    def connect(self, project: int, backend_url: str, **more: Any) -> int:
        """Make ``backend_url`` the project's only ML backend, answering clicks; its id.

        Raises:
            RuntimeError: Label Studio cannot use it; its own message says why.
        """
        for old in self.call("GET", f"/api/ml/?project={project}"):
            self.call("DELETE", f"/api/ml/{old['id']}")
        for old in self.call("GET", f"/api/webhooks/?project={project}"):
            self.call("DELETE", f"/api/webhooks/{old['id']}/")
        body = {"url": backend_url, "project": project, "title": "MaskLoop", "is_interactive": True, **more}
        backend = self.call("POST", "/api/ml/", json=body)
        if backend["state"] != "CO":
            raise RuntimeError(f"Label Studio could not connect {backend_url}: {backend.get('error_message')}")
        return int(backend["id"])
