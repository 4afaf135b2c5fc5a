"""The doctor in front of a real Label Studio, in each of the states that people get stuck in."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from maskloop.cli import build
from maskloop.demo.account import Account
from maskloop.demo.process import Backend
from maskloop.demo.project import CONFIG
from maskloop.demo.studio import Studio
from maskloop.labelstudio.checkup import Door, Finding, Verdict, examine
from maskloop.labelstudio.images import FetchOptions, ImageStore
from tests.e2e.conftest import EMAIL, PASSWORD, NewProject, NewStudio

Examine = Callable[..., dict[Verdict, str]]
SECRET = {"BASIC_AUTH_USER": "studio", "BASIC_AUTH_PASS": "open sesame", "MASKLOOP_WEBHOOK_SECRET": "hush"}


def told(findings: Iterator[Finding]) -> dict[Verdict, str]:
    """All that was said, by verdict."""
    said: dict[Verdict, list[str]] = {verdict: [] for verdict in Verdict}
    for finding in findings:
        said[finding.verdict].append(f"{finding.about}: {finding.says} {finding.remedy}")
    return {verdict: "\n".join(lines) for verdict, lines in said.items()}


@pytest.fixture
def checkup(studio: Studio, token: str, tmp_path: Path) -> Examine:
    def see(url: str, task: int) -> tuple[int, int]:
        options = FetchOptions(label_studio_url=studio.url, api_key=token, cache_dir=tmp_path)
        height, width = ImageStore(options).load(url, task).pixels.shape[:2]
        return width, height

    def look(door: Door, project: int | None = None, fix: bool = False) -> dict[Verdict, str]:
        return told(examine(studio.url, token, door, see, project, fix))

    return look


def unseen(url: str, task: int) -> tuple[int, int]:
    raise AssertionError("nothing is connected, so no image is looked at")


def test_stock_label_studio_takes_no_legacy_token_and_no_private_backend(
    new_studio: NewStudio, backend: Backend
) -> None:
    studio = new_studio(settings={})
    door = Door(backend.url)
    account = Account(studio.url, EMAIL, PASSWORD)
    legacy = account.call("GET", "/api/current-user/token")["token"]
    said = told(examine(studio.url, legacy, door, unseen))
    assert "legacy tokens switched off" in said[Verdict.PROBLEM]

    personal = account.personal_token()
    account.close()
    said = told(examine(studio.url, personal, door, unseen))
    assert f"The personal access token of {EMAIL} works" in said[Verdict.GOOD]
    assert "refuses to call" in said[Verdict.PROBLEM]
    assert "ML_BLOCK_LOCAL_IP=false" in said[Verdict.PROBLEM]
    assert "No project is connected" in said[Verdict.PROBLEM]

    access = account_access(studio.url, personal)
    said = told(examine(studio.url, access, door, unseen))
    assert "lives five minutes" in said[Verdict.PROBLEM]
    said = told(examine(studio.url, "", door, unseen))
    assert "There is no token" in said[Verdict.PROBLEM]
    said = told(examine(studio.url, "0" * 40, door, unseen))
    assert "does not know this legacy token" in said[Verdict.PROBLEM]


def account_access(url: str, personal: str) -> str:
    import requests

    with requests.Session() as session:
        answer = session.post(f"{url}/api/token/refresh/", json={"refresh": personal}, timeout=30)
    return str(answer.json()["access"])


def test_one_switch_alone_lets_clicks_through_but_no_webhooks(new_studio: NewStudio, backend: Backend) -> None:
    studio = new_studio(settings={"ML_BLOCK_LOCAL_IP": "false"})
    account = Account(studio.url, EMAIL, PASSWORD)
    project, personal = account.create_project("half open", CONFIG), account.personal_token()
    said = told(examine(studio.url, personal, Door(backend.url), unseen, project, fix=True))
    assert "but no webhooks" in said[Verdict.PROBLEM]
    assert "SSRF_PROTECTION_ENABLED=false" in said[Verdict.PROBLEM]
    assert account.call("GET", f"/api/webhooks/?project={project}") == []
    account.close()


def test_nothing_there(studio: Studio, token: str, backend: Backend) -> None:
    said = told(examine("http://127.0.0.1:9", token, Door("http://127.0.0.1:9"), unseen))
    assert "MaskLoop: http://127.0.0.1:9 does not answer" in said[Verdict.PROBLEM]
    assert "does not answer as Label Studio does" in said[Verdict.PROBLEM]
    said = told(examine(backend.url, token, Door(studio.url), unseen))
    assert "this is not MaskLoop" in said[Verdict.PROBLEM]
    assert "does not answer as Label Studio does" in said[Verdict.PROBLEM]


def test_a_healthy_project_is_all_well_once_its_scores_are_shown(
    checkup: Examine, account: Account, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(backend).project
    door = Door(backend.url)
    said = checkup(door)
    assert "the score column stays empty" in said[Verdict.WARNING], "connecting sets the title as version"
    assert said[Verdict.PROBLEM] == ""
    assert checkup(door, project, fix=True)[Verdict.PROBLEM] == ""
    (connected,) = account.call("GET", f"/api/ml/?project={project}")
    now = account.call("GET", f"/api/projects/{project}/")
    assert now["model_version"] == connected["model_version"]
    said = checkup(door, project)
    assert said[Verdict.PROBLEM] == said[Verdict.WARNING] == ""
    assert "MaskLoop can read it (640 x 480)" in said[Verdict.GOOD]


def test_a_project_without_anything_is_connected_by_fix(
    checkup: Examine, account: Account, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    account.call("DELETE", f"/api/ml/{labeling.backend}")
    door = Door(backend.url)
    assert "is not among its models (there are none)" in checkup(door, labeling.project)[Verdict.PROBLEM]
    said = checkup(door, labeling.project, fix=True)
    assert said[Verdict.PROBLEM] == ""
    assert f"Connected {backend.url}" in said[Verdict.FIXED]
    assert checkup(door, labeling.project)[Verdict.PROBLEM] == ""


def test_webhooks_that_are_missing_or_silent(
    checkup: Examine, account: Account, backend: Backend, new_project: NewProject
) -> None:
    project = new_project(backend).project
    door = Door(backend.url)
    (hook,) = account.call("GET", f"/api/webhooks/?project={project}")
    for change, symptom in (
        ({"is_active": False}, "is switched off"),
        ({"send_payload": False}, "sends no payload"),
        ({"send_for_all_actions": False, "actions": ["TASKS_CREATED"]}, "leaves out created or updated"),
    ):
        account.call("PATCH", f"/api/webhooks/{hook['id']}/", json={"url": hook["url"], **change})
        assert symptom in checkup(door, project)[Verdict.PROBLEM]
        assert checkup(door, project, fix=True)[Verdict.PROBLEM] == ""
        assert checkup(door, project)[Verdict.PROBLEM] == ""
    account.call("DELETE", f"/api/webhooks/{hook['id']}/")
    assert "There is no webhook" in checkup(door, project)[Verdict.PROBLEM]
    assert checkup(door, project, fix=True)[Verdict.PROBLEM] == ""
    (made,) = account.call("GET", f"/api/webhooks/?project={project}")
    assert made["url"] == f"{backend.url}/webhook"


def test_a_guarded_backend_needs_its_secret_in_the_webhook(
    checkup: Examine,
    account: Account,
    studio: Studio,
    token: str,
    new_project: NewProject,
    tmp_path: Path,
) -> None:
    environment = {"LABEL_STUDIO_URL": studio.url, "LABEL_STUDIO_API_KEY": token, **SECRET}
    with Backend(tmp_path / "guarded", environment) as guarded:
        assert "does not accept this user name" in checkup(Door(guarded.url))[Verdict.PROBLEM]
        door = Door(guarded.url, "studio", "open sesame", "hush")
        project = account.create_project("guarded", CONFIG)
        said = checkup(door, project, fix=True)
        assert f"Connected {guarded.url}" in said[Verdict.FIXED]
        (hook,) = account.call("GET", f"/api/webhooks/?project={project}")
        assert hook["headers"] == {"X-MaskLoop-Secret": "hush"}
        account.call("PATCH", f"/api/webhooks/{hook['id']}/", json={"url": hook["url"], "headers": {}})
        said = checkup(door, project)
        assert "does not carry the credentials" in said[Verdict.PROBLEM]
        assert "hush" not in said[Verdict.PROBLEM]
        assert "open sesame" not in said[Verdict.PROBLEM]
        assert checkup(door, project, fix=True)[Verdict.PROBLEM] == ""
        account.call("DELETE", f"/api/projects/{project}/")


def test_a_connection_that_gets_no_clicks(
    checkup: Examine, account: Account, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    change = {"url": backend.url, "project": labeling.project, "is_interactive": False}
    account.call("PATCH", f"/api/ml/{labeling.backend}", json=change)
    door = Door(backend.url)
    assert "not interactive" in checkup(door, labeling.project)[Verdict.PROBLEM]
    assert checkup(door, labeling.project, fix=True)[Verdict.PROBLEM] == ""
    (connected,) = account.call("GET", f"/api/ml/?project={labeling.project}")
    assert connected["is_interactive"] is True


@pytest.mark.parametrize(
    ("config", "symptom"),
    [
        (CONFIG.replace('smart="false"', 'smart="true"'), "is smart"),
        (CONFIG.replace('smart="true"', 'smart="false"'), "a click is an ordinary region"),
        (CONFIG.replace("BrushLabels", "EllipseLabels"), "add <BrushLabels"),
        (CONFIG.replace('hotkey="7"', 'alias="Thing"'), "Object of <KeyPointLabels"),
    ],
    ids=["smart_brush", "nothing_smart", "no_brush", "labels_differ"],
)
def test_labeling_configs_that_do_not_work(
    config: str, symptom: str, checkup: Examine, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend, config=config)
    assert symptom in checkup(Door(backend.url), labeling.project)[Verdict.PROBLEM]


def test_an_image_that_cannot_be_read(
    checkup: Examine, account: Account, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    account.call("DELETE", f"/api/tasks/{labeling.tasks[0]}/")
    task = [{"image": "http://169.254.169.254/latest/meta-data"}]
    account.call("POST", f"/api/projects/{labeling.project}/import", json=task)
    said = checkup(Door(backend.url), labeling.project)
    assert "image of task" in said[Verdict.PROBLEM]


def test_the_command_says_it_and_ends_with_a_status(
    studio: Studio, account: Account, token: str, backend: Backend, new_project: NewProject
) -> None:
    labeling = new_project(backend)
    project = str(labeling.project)
    options = ["--label-studio", studio.url, "--api-key", token, "--backend", backend.url, "--project", project]
    runner = CliRunner()
    fresh = runner.invoke(build(), ["doctor", *options])
    assert fresh.exit_code == 0
    assert "It works; see the remarks above." in fresh.output
    account.call("DELETE", f"/api/ml/{labeling.backend}")
    sick = runner.invoke(build(), ["doctor", *options])
    assert sick.exit_code == 1
    assert "to fix" in sick.output
    assert runner.invoke(build(), ["doctor", *options, "--fix"]).exit_code == 0
    well = runner.invoke(build(), ["doctor", *options])
    assert well.exit_code == 0
    assert "All is well" in well.output
    assert token not in well.output
