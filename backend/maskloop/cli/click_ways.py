"""The ways from click to mask that ``maskloop bench click`` compares, each in a process of its own."""

from __future__ import annotations

import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from maskloop.segment.prompt import Image, Point


class Way:
    """A model that keeps embeddings, or (``cached`` false) one of the SAM family that encodes at every click."""

    def __init__(self, model: str, cached: bool, threads: int) -> None:
        from maskloop.segment.catalog import Catalog
        from maskloop.segment.embeddings import EmbeddingCache
        from maskloop.settings import Settings

        settings = Settings()
        catalog = Catalog(settings.models_dir, settings.data_dir)
        named = model if model in catalog.names() else Path(model)
        self._segmenter: Any = catalog.load(named, device=settings.device, threads=threads)
        self._cache = EmbeddingCache(settings.embedding_ram_mb << 20)
        self._cached = cached
        self._image: Image | None = None
        self._content = ""

    def open(self, image: Image, content: str) -> None:
        """An image to click on, and a second name for it under which it is prepared."""
        if self._image is None:
            # The first run of a network is slower than any later one; that is not what is compared.
            self._image, self._content = image, "warm-up"
            self.click(1)
            self.click(2)
        self._image, self._content = image, content
        if self._cached:
            self._cache.get(f"{content}-prepared", self._segmenter, lambda: image)

    def click(self, count: int) -> tuple[float, float]:
        """Wall and processor seconds to answer ``count`` clicks; 0 is one click on the prepared image."""
        image = self._image
        if image is None:
            raise RuntimeError("click before open")
        clicks = spread(image.shape[:2], max(1, count))
        waited, worked = time.perf_counter(), time.process_time()
        if self._cached:
            from maskloop.segment.prompt import Prompt

            key = self._content if count else f"{self._content}-prepared"
            self._segmenter.decode(self._cache.get(key, self._segmenter, lambda: image), Prompt(tuple(clicks)))
        else:
            self._afresh(image, clicks)
        return time.perf_counter() - waited, time.process_time() - worked

    def memory(self) -> int:
        """Resident megabytes of this process."""
        import psutil

        return round(psutil.Process().memory_info().rss / 2**20)

    def _afresh(self, image: Image, clicks: list[Point]) -> None:
        """The official image predictor's way: set the image, predict from all clicks, take the best of three masks."""
        import torch

        net, device = self._segmenter.net, self._segmenter.device
        frame = self._segmenter.frame(image.shape[:2])
        with torch.inference_mode():
            pixels = torch.from_numpy(net.pixels(image))[None].to(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=self._segmenter.half):
                features = net.features(pixels)
            places, labels = frame.points(clicks)
            logits, scores = net(
                {name: feature.float() for name, feature in features.items()},
                points=torch.from_numpy(places)[None].to(device),
                labels=torch.from_numpy(labels)[None].to(device),
                several=True,
            )
            frame.full(logits[0, int(scores[0].argmax())].float().cpu().numpy())


class Worker:
    """A :class:`Way` in its own process; calls are answered one at a time."""

    def __init__(self, model: str, cached: bool, threads: int) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, far = context.Pipe()
        self._process = context.Process(target=_serve, args=(far, model, cached, threads), daemon=True)
        self._process.start()
        far.close()

    def open(self, image: Image, content: str) -> None:
        self._ask("open", image, content)

    def click(self, count: int) -> tuple[float, float]:
        waited, worked = self._ask("click", count)
        return float(waited), float(worked)

    def memory(self) -> int:
        return int(self._ask("memory"))

    def stop(self) -> None:
        self._pipe.close()
        self._process.join(30)

    def _ask(self, what: str, *arguments: Any) -> Any:
        self._pipe.send((what, arguments))
        try:
            return self._pipe.recv()
        except EOFError:
            raise RuntimeError("the measuring process ended; its error is above") from None


def _serve(pipe: Connection, model: str, cached: bool, threads: int) -> None:
    import torch

    if threads:
        torch.set_num_threads(threads)
    way = Way(model, cached, threads)
    while True:
        try:
            what, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(getattr(way, what)(*arguments))


def spread(size: tuple[int, ...], count: int) -> list[Point]:
    """The same clicks for everyone: the middle first, then around it, one in three negative and farther out."""
    from maskloop.segment.prompt import Point

    height, width = size[:2]
    numbers = np.arange(count)
    radii = np.where(numbers % 3 == 2, 0.4, 0.12) * np.minimum(1, numbers)
    xs, ys = (0.5 + radii * np.cos(numbers * 2.4)) * width, (0.5 + radii * np.sin(numbers * 2.4)) * height
    return [Point(float(x), float(y), number % 3 != 2) for number, (x, y) in enumerate(zip(xs, ys, strict=True))]
