"""A real Label Studio, a real ``maskloop serve`` and a real browser, each started once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from maskloop.demo.account import Account
from maskloop.demo.process import Backend
from maskloop.demo.project import CONFIG
from maskloop.demo.studio import PRIVATE_BACKEND, Studio
from tests.e2e import pictures
from tests.e2e.editor import Editor

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(os.environ.get("MASKLOOP_TEST_LABEL_STUDIO", ROOT / ".venv-label-studio" / "bin" / "label-studio"))
TEMPLATE = ROOT / ".cache" / "label-studio"
EMAIL, PASSWORD = "admin@example.com", "e2e-password-1"
CHROME = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def needed(found: bool, what: str) -> None:
    """Skip where something is not installed; in continuous integration everything has to be."""
    if not found and os.environ.get("CI") == "true":
        pytest.fail(what)
    if not found:
        pytest.skip(what)


NewStudio = Callable[..., Studio]


@pytest.fixture(scope="session")
def new_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NewStudio]:
    """Start one more Label Studio: a copy of one that was set up before, because migrations take a minute."""
    needed(PROGRAM.exists(), f"Label Studio is not installed at {PROGRAM}: run `make label-studio`")
    if not (TEMPLATE / "ready").exists():
        shutil.rmtree(TEMPLATE, ignore_errors=True)
        with Studio(PROGRAM, TEMPLATE, email=EMAIL, password=PASSWORD):
            pass
        (TEMPLATE / "ready").touch()
    started: list[Studio] = []

    def start(settings: dict[str, str] = PRIVATE_BACKEND) -> Studio:
        data = tmp_path_factory.mktemp("label-studio") / "data"
        shutil.copytree(TEMPLATE, data)
        studio = Studio(PROGRAM, data, email=EMAIL, password=PASSWORD, settings=settings)
        started.append(studio)
        return studio.start()

    yield start
    for studio in started:
        studio.stop()


@pytest.fixture(scope="session")
def studio(new_studio: NewStudio) -> Studio:
    return new_studio()


@pytest.fixture(scope="session")
def account(studio: Studio) -> Iterator[Account]:
    account = Account(studio.url, EMAIL, PASSWORD)
    yield account
    account.close()


@pytest.fixture(scope="session")
def token(account: Account) -> str:
    """A personal access token: what a stock Label Studio hands out."""
    return account.personal_token()


def _backend(data: Path, studio: Studio, token: str, **settings: str) -> Iterator[Backend]:
    patient = {"MASKLOOP_DEADLINE_SECONDS": "60", "OMP_NUM_THREADS": "2"}  # the machine also runs the browser
    environment = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": token, **patient, **settings}
    with Backend(data, environment) as backend:
        yield backend


@pytest.fixture(scope="session")
def backend(studio: Studio, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """``maskloop serve`` as it comes."""
    yield from _backend(tmp_path_factory.mktemp("maskloop"), studio, token)


@pytest.fixture(scope="session")
def correcting_backend(studio: Studio, token: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    """``maskloop serve`` that may correct existing masks in place."""
    data = tmp_path_factory.mktemp("maskloop-correcting")
    yield from _backend(data, studio, token, MASKLOOP_CORRECT_IN_PLACE="true")


@dataclass(frozen=True)
class Labeling:
    """A project with a connected backend."""

    project: int
    tasks: list[int]
    backend: int


NewProject = Callable[..., Labeling]


@pytest.fixture
def new_project(account: Account) -> Iterator[NewProject]:
    """Make a project with images and a backend; it goes away with the test."""
    made: list[int] = []

    def make(backend: Backend, images: dict[str, bytes] | None = None, config: str = CONFIG) -> Labeling:
        project = account.create_project("End to end", config)
        made.append(project)
        for name, content in (images or {"picture.png": pictures.png()}).items():
            account.upload(project, name, content)
        return Labeling(project, account.task_ids(project), account.connect(project, backend.url))

    yield make
    for project in made:
        account.call("DELETE", f"/api/projects/{project}/")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    names = ("chromium", "chromium-browser", "google-chrome")
    program = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    needed(program is not None, "no Chromium found: install it (Debian: apt install chromium) or set CHROMIUM")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROME, headless=True)
        yield browser
        browser.close()


NewEditor = Callable[..., Editor]


@pytest.fixture
def new_editor(browser: Browser, studio: Studio) -> Iterator[NewEditor]:
    """One more browser window, logged in."""
    pages: list[Page] = []

    def open_window(email: str = EMAIL, password: str = PASSWORD) -> Editor:
        page = browser.new_context(viewport={"width": 1500, "height": 1250}).new_page()
        pages.append(page)
        editor = Editor(page, studio.url)
        editor.log_in(email, password)
        return editor

    yield open_window
    for page in pages:
        page.context.close()


@pytest.fixture
def editor(new_editor: NewEditor) -> Iterator[Editor]:
    """The annotator's window; no test may leave a JavaScript exception in it."""
    editor = new_editor()
    yield editor
    assert not editor.errors, editor.errors
