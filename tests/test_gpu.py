"""What only a GPU can show: the same answers as on the CPU, no memory left, a broken device, a training on it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("torch sees no GPU here", allow_module_level=True)

from maskloop.cli.worker import free_device_memory  # noqa: E402
from maskloop.jobs.train import run_claimed  # noqa: E402
from maskloop.learn.versions import Versions  # noqa: E402
from maskloop.ledger import Ledger, TrainingState  # noqa: E402
from maskloop.queue.job import Job, JobError, Payload, Priority, Result  # noqa: E402
from maskloop.queue.redis import RedisQueue  # noqa: E402
from maskloop.queue.together import run_together  # noqa: E402
from maskloop.segment.catalog import Catalog  # noqa: E402
from maskloop.segment.memory import ANSWERS  # noqa: E402
from maskloop.segment.prompt import Box, Image, Mask, Point, Prompt, iou  # noqa: E402
from maskloop.segment.segmenter import Embedding, Prediction, Segmenter, Together  # noqa: E402
from maskloop.settings import default_models_dir  # noqa: E402
from tests.jobs.learning_project import PROJECT, settings, submit  # noqa: E402
from tests.queue.conftest import client, shared_server, start_worker, url  # noqa: E402, F401
from tests.queue.waiting import StartWorker  # noqa: E402
from tests.redis_server import needs_redis  # noqa: E402
from tests.segment.checkpoints import KINDS, save_model  # noqa: E402

NAMES = ("clicknet", *(kind.replace("_", "-") for kind in KINDS))


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    root = tmp_path_factory.mktemp("models")
    (root / "clicknet").symlink_to(default_models_dir() / "clicknet")
    for kind in KINDS:
        save_model(root, kind, lively=True)
    return Catalog(root)


def scene(seed: int) -> tuple[Image, Mask]:
    """A bright disc on a noisy ground."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:300, :400]
    mask: Mask = (columns - rng.integers(120, 280)) ** 2 + (rows - 150) ** 2 <= 60**2
    pixels = rng.normal(80, 12, (300, 400, 3))
    pixels[mask] += 90
    return np.clip(pixels, 0, 255).astype(np.uint8), mask


def prompts(mask: Mask) -> list[Prompt]:
    rows, columns = np.nonzero(mask)
    middle = Point(float(columns.mean()), float(rows.mean()))
    box = Box(float(columns.min()), float(rows.min()), float(columns.max() + 1), float(rows.max() + 1))
    return [Prompt((middle,)), Prompt((middle, Point(5, 5, False))), Prompt(box=box)]


def answers(segmenter: Segmenter, image: Image, asked: Sequence[Prompt]) -> list[Prediction]:
    ANSWERS._kept.clear()
    embedding = segmenter.encode(image)
    return [segmenter.decode(embedding, prompt) for prompt in asked]


def in_single_precision(segmenter: Segmenter) -> Segmenter:
    """A SAM of random weights tells what it sees from noise only with all of its digits."""
    if hasattr(segmenter, "half"):
        segmenter.half = False
    return segmenter


@pytest.mark.parametrize("name", NAMES)
def test_the_gpu_answers_as_the_cpu_does(catalog: Catalog, name: str) -> None:
    image, mask = scene(1)
    on_cpu, on_gpu = (in_single_precision(catalog.load(name, device=device)) for device in ("cpu", "cuda"))
    pairs = zip(answers(on_cpu, image, prompts(mask)), answers(on_gpu, image, prompts(mask)), strict=True)
    for cpu, gpu in pairs:
        assert iou(cpu.mask, gpu.mask) > 0.97
        assert gpu.score == pytest.approx(cpu.score, abs=0.02)
    if name == "clicknet":
        assert min(iou(answer.mask, mask) for answer in answers(on_gpu, image, prompts(mask))) > 0.9


@pytest.mark.parametrize("name", NAMES)
def test_clicks_are_answered_together_as_alone(catalog: Catalog, name: str) -> None:
    segmenter = in_single_precision(catalog.load(name, device="cuda"))
    assert isinstance(segmenter, Together)
    asked: list[tuple[Embedding, Prompt]] = []
    for seed in range(4):
        image, mask = scene(seed)
        embedding = segmenter.encode(image)
        asked += [(embedding, prompt) for prompt in prompts(mask)]
    ANSWERS._kept.clear()
    together = segmenter.decode_all(asked)
    for (embedding, prompt), many in zip(asked, together, strict=True):
        ANSWERS._kept.clear()
        one = segmenter.decode(embedding, prompt)
        assert isinstance(many, Prediction)
        assert iou(many.mask, one.mask) > 0.97
        assert many.score == pytest.approx(one.score, abs=0.02)


def test_memory_that_does_not_suffice_for_all_suffices_one_by_one() -> None:
    most = torch.cuda.mem_get_info()[0]
    runs: list[int] = []

    def hungry(payloads: Sequence[Payload]) -> list[Result | Exception]:
        runs.append(len(payloads))
        held = [torch.empty(int(0.6 * most), dtype=torch.uint8, device="cuda") for _ in payloads]
        return [{"n": payload["n"], "held": len(held)} for payload in payloads]

    found = dict(run_together(hungry, [{"n": n} for n in range(3)], free_device_memory))
    assert [found[n] for n in range(3)] == [{"n": n, "held": 1} for n in range(3)]
    assert runs == [3, 1, 1, 1]


def test_what_no_memory_suffices_for_is_said_and_ends_nothing() -> None:
    def greedy(payloads: Sequence[Payload]) -> list[Result | Exception]:
        torch.empty(2 * torch.cuda.mem_get_info()[1], dtype=torch.uint8, device="cuda")
        return [{} for _ in payloads]

    ((_, outcome),) = run_together(greedy, [{}], free_device_memory)
    assert isinstance(outcome, JobError)
    assert "more device memory than there is" in str(outcome)
    assert float(torch.ones(3, device="cuda").sum()) == 3.0


@needs_redis
def test_a_gpu_that_broke_ends_the_process_and_loses_no_batch_job(
    url: str,  # noqa: F811
    tmp_path: Path,
    start_worker: StartWorker,  # noqa: F811
) -> None:
    worker = start_worker()
    (before,) = worker.workers()
    job = Job("break gpu", {"n": 1, "until": str(tmp_path / "broken")})
    assert RedisQueue(url).call(job, 90, Priority.BATCH) == {"n": 3.0}
    (after,) = worker.workers()
    assert before != after
    assert worker.ran() == [[1], [1]]
    with pytest.raises(JobError, match="worker restarts"):
        RedisQueue(url).call(Job("break gpu", {"n": 2, "until": str(tmp_path / "broken again")}), 20)


@pytest.mark.parametrize("name", ["clicknet", "sam", "sam-hq", "sam2"])
def test_a_training_runs_on_the_gpu_and_its_version_serves_anywhere(
    tmp_path: Path, catalog: Catalog, name: str
) -> None:
    of = settings(tmp_path, model=name, models_dir=catalog.models_dir, device="cuda", train_minutes=1.0)
    ledger = Ledger(of.ledger_url)
    submit(tmp_path, ledger, 12)
    training = ledger.request_training(PROJECT, "Start Training")
    ledger.claim_training("me")
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    state = run_claimed(of, training.id, "me")
    done = ledger.training(training.id)
    ledger.close()
    assert done is not None
    assert state in (TrainingState.PROMOTED, TrainingState.KEPT), done.note
    assert torch.cuda.max_memory_allocated() > before
    folder = Versions(of.data_dir / "versions", catalog.version(name)).folder(done.version or "")
    assert folder is not None
    image, mask = scene(1)
    for device in ("cpu", "cuda"):
        answered = answers(catalog.load(folder, device=device), image, prompts(mask))
        assert len(answered) == 3


def test_a_training_that_finds_no_memory_on_the_gpu_goes_on_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from maskloop.jobs import lesson

    teach, devices = lesson.teach, []

    def crowded(*given: object) -> object:
        devices.append(str(given[-1]))
        if devices[-1] != "cpu":
            torch.empty(2 * torch.cuda.mem_get_info()[1], dtype=torch.uint8, device="cuda")
        return teach(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(lesson, "teach", crowded)
    of = settings(tmp_path, device="cuda", train_minutes=0.5)
    ledger = Ledger(of.ledger_url)
    submit(tmp_path, ledger, 12)
    training = ledger.request_training(PROJECT, "Start Training")
    ledger.claim_training("me")
    state = run_claimed(of, training.id, "me")
    ledger.close()
    assert state in (TrainingState.PROMOTED, TrainingState.KEPT)
    assert devices == ["cuda", "cpu"]
    assert "goes on on the CPU" in caplog.text
