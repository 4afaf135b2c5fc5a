"""Images with one object each, all of different sizes: an answer for another image cannot go unnoticed."""

from __future__ import annotations

import io
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from maskloop.segment.prompt import Mask


@dataclass(frozen=True, eq=False)
class Scene:
    """``mask`` is the object, H x W; ``url`` where the image is served."""

    url: str
    mask: Mask

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return self.mask.shape[1], self.mask.shape[0]


def draw(number: int, seed: int) -> tuple[NDArray[np.uint8], Mask]:
    """A textured ellipse on a textured ground, about 0.3 megapixels; the size is different for each number."""
    noise = np.random.default_rng([seed, number])
    width, height = 640 + 4 * number, 480 + 2 * (number % 7)
    yy, xx = np.mgrid[:height, :width]
    centre = noise.uniform(0.35, 0.65, 2) * (width, height)
    radii = noise.uniform(0.15, 0.3, 2) * (width, height)
    mask: Mask = ((xx - centre[0]) / radii[0]) ** 2 + ((yy - centre[1]) / radii[1]) ** 2 < 1
    ground, figure = noise.uniform(20, 110, 3), noise.uniform(140, 240, 3)
    image = np.where(mask[..., None], figure, ground) + noise.normal(0, 12, (height, width, 1))
    return np.clip(image, 0, 255).astype(np.uint8), mask


class SceneServer:
    """Serves ``count`` scenes on the loopback interface until closed; a context manager."""

    def __init__(self, count: int, port: int = 0, seed: int = 0) -> None:
        drawn = [draw(number, seed) for number in range(count)]
        files = [_jpeg(image) for image, _ in drawn]

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                data = files[int(self.path.strip("/").split(".")[0])]
                self.send_response(200)
                self.send_header("Content-Type", "image/jpeg")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self.scenes = [Scene(f"http://{self.host}/{n}.jpg", mask) for n, (_, mask) in enumerate(drawn)]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self) -> SceneServer:
        return self

    def __exit__(self, *raised: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
