"""Images on their way from other machines: fetched beside the one thread that answers clicks."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from maskloop.labelstudio.images import ImageStore, LoadedImage
from maskloop.labelstudio.urls import shown
from maskloop.queue.pauses import Later, let_clicks_pass

AT_ONCE = 16
AHEAD = 4
"""Images that are fetched at once for jobs nobody waits for; a further such job waits for its image itself."""
KEPT_SECONDS = 30.0
"""An image whose job never came back for it is forgotten after this."""
LOOK_SECONDS = 0.05


@dataclass(eq=False)
class _OnItsWay:
    image: Future[LoadedImage]
    waited_for: bool
    since: float = field(default_factory=time.monotonic)


class Fetching:
    """Gives a job its image, or tells it to come back. Called from one thread at a time."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self._threads = ThreadPoolExecutor(AT_ONCE, "images")
        self._on_their_way: dict[tuple[str, int | None], _OnItsWay] = {}

    def image(self, url: str, task: int | None, waited_for: bool) -> LoadedImage:
        """The image of a task, upright.

        ``waited_for`` says that a person waits for the job. Raises Later while the image is on its way, ImageError.
        """
        key = (url, task)
        found = self._on_their_way.get(key)
        if found is None:
            image = self._images.at_hand(url, task)
            if image is not None:
                return image
            self._forget_old()
            found = _OnItsWay(self._threads.submit(self._images.load, url, task), waited_for)
            if not waited_for and sum(not one.waited_for for one in self._on_their_way.values()) >= AHEAD:
                while not found.image.done():
                    time.sleep(LOOK_SECONDS)
                    let_clicks_pass()
                return found.image.result()
            self._on_their_way[key] = found
        if not found.image.done():
            raise Later(found.image, f"the image {shown(url)} is still on its way")
        del self._on_their_way[key]
        return found.image.result()

    def _forget_old(self) -> None:
        old = time.monotonic() - KEPT_SECONDS
        for key, one in list(self._on_their_way.items()):
            if one.image.done() and one.since < old:
                del self._on_their_way[key]
