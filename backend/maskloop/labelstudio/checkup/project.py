"""One project: what is connected to it, what its config says, and whether its scores and images can be seen."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from maskloop.labelstudio.checkup.finding import (
    PRIVATE,
    Door,
    Finding,
    See,
    Verdict,
    good,
    is_private_refusal,
    problem,
    same_place,
)
from maskloop.labelstudio.client import LabelStudioClient
from maskloop.labelstudio.connections import Connections
from maskloop.labelstudio.controls import ConfigError, LabelConfig
from maskloop.labelstudio.images import ImageError
from maskloop.labelstudio.records import Backend, LabelStudioError, Webhook


class ProjectCheckup:
    """Looks at one project; with ``fix`` it puts right what the API allows."""

    def __init__(self, client: LabelStudioClient, door: Door, project: int, fix: bool) -> None:
        self.client, self.connections = client, Connections(client)
        self.door, self.fix = door, fix
        self.project = client.project(project)
        self.about = f"project {project} ({self.project.title})"

    def findings(self, see: See) -> Iterator[Finding]:
        yield from self._config()
        backend, findings = self._backend()
        yield from findings
        if backend is not None:
            yield from self._connection(backend)
            yield from self._webhook(backend)
            yield from self._scores(backend)
        yield from self._image(see)

    def _config(self) -> Iterator[Finding]:
        try:
            problems = LabelConfig.parse(self.project.label_config).problems()
        except ConfigError as error:
            problems = (str(error),)
        for says in problems:
            yield problem(self.about, says, "Settings > Labeling Interface > Code.")
        if not problems:
            yield good(self.about, "The labeling config takes clicks and masks.")

    def _ours(self) -> Backend | None:
        backends = self.connections.backends(self.project.id)
        return next((backend for backend in backends if same_place(backend.url, self.door.url)), None)

    def _backend(self) -> tuple[Backend | None, list[Finding]]:
        """The connection to MaskLoop, made now if that is asked for."""
        ours = self._ours()
        if ours is not None:
            return ours, []
        if not self.fix:
            urls = [backend.url for backend in self.connections.backends(self.project.id)]
            return None, [
                problem(
                    self.about,
                    f"{self.door.url} is not among its models ({', '.join(urls) or 'there are none'}).",
                    "Settings > Model > Connect Model, or the doctor with --fix. If one of them is this MaskLoop under "
                    "another name, say so with --backend.",
                )
            ]
        try:
            self.connections.connect(self.project.id, self.door.url, self.door.auth)
        except LabelStudioError as error:
            remedy = PRIVATE if is_private_refusal(error) else ""
            return None, [problem(self.about, f"It could not be connected: {error}", remedy)]
        self.project = self.client.project(self.project.id)  # connecting sets its model version
        return self._ours(), [Finding(Verdict.FIXED, self.about, f"Connected {self.door.url}.")]

    def _connection(self, ours: Backend) -> Iterator[Finding]:
        if ours.state in ("DI", "ER"):
            remedy = "Look at MaskLoop's log."
            if bool(ours.basic_auth_user) != bool(self.door.user):
                remedy = "Edit the connection: Basic auth with MaskLoop's BASIC_AUTH_USER and BASIC_AUTH_PASS."
            elif urlsplit(ours.url).hostname in ("localhost", "127.0.0.1"):
                remedy = "If Label Studio runs in a container, localhost is that container: use a name it can reach."
            yield problem(self.about, f"Label Studio cannot reach {ours.url}. {ours.error}".strip(), remedy)
        else:
            yield good(self.about, f"Connected to {ours.url}, version {ours.model_version}.")
        if not ours.is_interactive and self.fix:
            self.connections.make_interactive(ours, self.door.auth)
            yield Finding(Verdict.FIXED, self.about, "Clicks are sent to it now.")
        elif not ours.is_interactive:
            yield problem(
                self.about,
                "The connection is not interactive: clicks are not sent.",
                "Settings > Model > Edit: switch on 'Interactive preannotations', or the doctor with --fix.",
            )
        interactive = [backend for backend in self.connections.backends(self.project.id) if backend.is_interactive]
        if interactive and ours.is_interactive and interactive[0].id != ours.id:
            yield problem(
                self.about,
                f"All clicks go to {interactive[0].url}, the first interactive model.",
                "Remove it or make it non-interactive.",
            )

    def _webhook(self, ours: Backend) -> Iterator[Finding]:
        target = f"{ours.url.rstrip('/')}/webhook"
        hooks = self.connections.webhooks(self.project.id)
        hook = next((hook for hook in hooks if same_place(hook.url, target)), None)
        says = webhook_problem(hook, self.door)
        if not says:
            yield good(self.about, "Submitted annotations reach MaskLoop by webhook.")
            return
        if not self.fix:
            header = f", header {next(iter(self.door.headers))}" if self.door.headers else ""
            remedy = f"Settings > Webhooks: {target}, all events, payload on{header}. Or the doctor with --fix."
            yield problem(self.about, says, remedy)
            return
        try:
            if hook is None:
                self.connections.create_webhook(self.project.id, target, self.door.headers)
            else:
                self.connections.repair_webhook(hook, self.door.headers)
        except LabelStudioError as error:
            yield problem(self.about, str(error), PRIVATE if is_private_refusal(error) else "")
        else:
            yield Finding(Verdict.FIXED, self.about, f"The webhook {target} is set up.")

    def _scores(self, ours: Backend) -> Iterator[Finding]:
        shown, version = self.project.model_version, ours.model_version
        if shown == version or not version:
            yield good(self.about, "Scores of predictions are shown.")
        elif self.fix:
            self.connections.choose_version(self.project.id, version, self.door.auth)
            yield Finding(Verdict.FIXED, self.about, f"Scores of {version} are shown now.")
        else:
            yield Finding(  # clicks work all the same, and nothing has been predicted when a project is connected
                Verdict.WARNING,
                self.about,
                f"The Data Manager shows scores of {shown or 'no version'}, and MaskLoop predicts as {version}: "
                "the score column stays empty.",
                "Settings > Annotation > Prelabeling: choose it once it has predicted. Or the doctor with --fix.",
            )

    def _image(self, see: See) -> Iterator[Finding]:
        task = next(self.client.tasks(self.project.id), None)
        try:
            tag = LabelConfig.parse(self.project.label_config).image()
        except ConfigError:
            return
        if task is None or tag is None:
            return
        about = f"image of task {task.id}"
        try:
            width, height = see(str(task.data.get(tag.key, "")), task.id)
        except ImageError as error:
            yield problem(about, str(error))
        else:
            yield good(about, f"MaskLoop can read it ({width} x {height}).")


def webhook_problem(hook: Webhook | None, door: Door) -> str:
    """What keeps submissions from being learned from; empty: nothing."""
    if hook is None:
        return "There is no webhook: MaskLoop does not hear of submitted annotations."
    if not hook.is_active:
        return "The webhook is switched off."
    if not hook.send_payload:
        return "The webhook sends no payload, so MaskLoop cannot tell which annotation changed."
    if hook.actions is not None and not {"ANNOTATION_CREATED", "ANNOTATION_UPDATED"} <= hook.actions:
        return "The webhook leaves out created or updated annotations."
    if any(hook.headers.get(name) != value for name, value in door.headers.items()):
        return "The webhook does not carry the credentials MaskLoop asks for; Label Studio adds none by itself."
    return ""
