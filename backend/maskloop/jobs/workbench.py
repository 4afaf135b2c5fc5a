"""What a worker has at hand: images, embeddings, and the models it keeps warm."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from maskloop.jobs.fetching import Fetching
from maskloop.labelstudio.images import ImageStore, LoadedImage
from maskloop.learn.versions import VersionError, Versions
from maskloop.segment.card import ModelError, check_files, read_card
from maskloop.segment.catalog import Catalog
from maskloop.segment.embeddings import EmbeddingCache
from maskloop.segment.prompt import Point, Prompt
from maskloop.segment.segmenter import Embedding, Segmenter

log = logging.getLogger(__name__)

WARM_VERSIONS = 8
"""Versions kept in memory at once; the least recently used goes first."""


@dataclass
class Timings:
    """Seconds of each stage of one job, and where its embedding came from."""

    seconds: dict[str, float] = field(default_factory=dict)
    tier: str = ""

    def stage(self, name: str, since: float) -> float:
        """Book the time since ``since`` under ``name``; returns now."""
        now = time.perf_counter()
        self.seconds[name] = now - since
        return now


class Workbench:
    """Holds no image and no prompt between jobs, only caches and warm models."""

    def __init__(
        self,
        catalog: Catalog,
        versions: Versions,
        images: ImageStore,
        embeddings: EmbeddingCache,
        model: str,
        device: str = "auto",
        threads: int = 0,
    ) -> None:
        self.catalog = catalog
        self.versions = versions
        self.images = images
        self._fetching = Fetching(images)
        self.embeddings = embeddings
        self.model = model
        self._device = device
        self._threads = threads
        self._warm: OrderedDict[str, Segmenter] = OrderedDict()
        self._damaged: set[str] = set()
        self._lock = threading.Lock()

    @property
    def base_version(self) -> str:
        return self.versions.base

    @property
    def loaded(self) -> list[str]:
        """The versions kept warm."""
        with self._lock:
            return list(self._warm)

    def segmenter(self, version: str) -> tuple[str, Segmenter]:
        """The segmenter of a version, and the version it really is.

        A version that is gone (deleted, or not yet on this machine) or damaged is answered by the base.
        """
        try:
            folder = self.versions.folder(version)
        except VersionError as error:
            log.warning("%s; answering with %s", error, self.base_version)
            version, folder = self.base_version, None
        with self._lock:
            segmenter = self._warm.get(version)
        if segmenter is None:
            # Not under the lock: a worker must be able to say what it has loaded while it loads, or it counts as dead.
            source = folder if folder is not None else self.model
            try:
                segmenter = self.catalog.load(source, device=self._device, threads=self._threads)
            except ModelError as error:
                if folder is None:
                    raise
                self._say_damaged(version, error)
                return self.segmenter(self.base_version)
        with self._lock:
            self._damaged.discard(version)
            segmenter = self._warm.setdefault(version, segmenter)
            self._warm.move_to_end(version)
            while len(self._warm) > WARM_VERSIONS:
                self._warm.popitem(last=False)
        return version, segmenter

    def sound(self, version: str) -> str:
        """The version, or the base if its folder is gone or is not what its card says."""
        try:
            folder = self.versions.folder(version)
            if folder is not None:
                check_files(folder, read_card(folder))
        except (VersionError, ModelError) as error:
            self._say_damaged(version, error)
            return self.base_version
        return version

    def _say_damaged(self, version: str, error: Exception) -> None:
        # Every click of the project comes by here; the folder is looked at each time, since it may be restored.
        with self._lock:
            said = version in self._damaged
            self._damaged.add(version)
        if not said:
            log.error(
                "version %s cannot be used, the base %s takes its place: %s. Restore its folder from a backup, "
                "or leave it with `maskloop rollback`",
                version, self.base_version, error,
            )  # fmt: skip

    def image(self, url: str, task: int | None) -> LoadedImage:
        """The task's image, upright. Raises ImageError."""
        return self.images.load(url, task)

    def image_or_later(self, url: str, task: int | None, waited_for: bool = False) -> LoadedImage:
        """Likewise, for a job of a queue: it may have to come back. Raises Later, ImageError."""
        return self._fetching.image(url, task, waited_for)

    def embedding(self, image: LoadedImage, segmenter: Segmenter, timings: Timings) -> Embedding:
        """The image's embedding from the nearest cache, encoding only as a last resort."""
        before = time.perf_counter()
        embedding, tier = self.embeddings.find(image.content, segmenter, lambda: image.pixels)
        timings.stage("encode", before)
        timings.tier = tier.value
        return embedding

    def at_hand(self, image: LoadedImage, segmenter: Segmenter) -> bool:
        """Whether the image's embedding is on this machine."""
        return self.embeddings.contains(image.content, segmenter.encoder)

    def warm_up(self) -> None:
        """Load the base model and run it once; raises with the reason when it cannot work."""
        _, segmenter = self.segmenter(self.base_version)
        image = np.full((64, 64, 3), 40, np.uint8)
        image[16:48, 16:48] = 220
        prediction = segmenter.decode(segmenter.encode(image), Prompt(points=(Point(32, 32),)))
        if prediction.mask.shape != (64, 64):
            raise RuntimeError(
                f"{self.model} failed its self-test: a mask of {prediction.mask.shape} for a 64 x 64 image"
            )
