"""``maskloop predict``: one image, one prompt, one mask, without a server."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maskloop.cli.files import new_mask, new_picture

if TYPE_CHECKING:
    from maskloop.segment.prompt import Image, Mask, Point, Prompt


def predict(
    image: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The image.")],
    point: Annotated[list[str], typer.Option(help="Positive click X,Y in pixels; may be repeated.")] = [],  # noqa: B006
    negative: Annotated[list[str], typer.Option(help="Negative click X,Y; may be repeated.")] = [],  # noqa: B006
    box: Annotated[str, typer.Option(help="Box X0,Y0,X1,Y1 in pixels.")] = "",
    mask: Annotated[Path | None, typer.Option(exists=True, help="Mask to start from (bright = object).")] = None,
    model: Annotated[str, typer.Option(help="A model of `maskloop models`.")] = "",
    output: Annotated[
        Path, typer.Option("-o", "--output", callback=new_mask, help="Where the mask goes (PNG).")
    ] = Path("mask.png"),
    overlay: Annotated[
        Path | None, typer.Option(callback=new_picture, help="Also write the image with the mask drawn on it.")
    ] = None,
) -> None:
    """Answer clicks or a box on one image with a mask, as the server would."""
    import numpy as np
    from PIL import Image as Pillow

    from maskloop.labelstudio.pixels import upright
    from maskloop.labelstudio.urls import ImageError
    from maskloop.segment.card import ModelError
    from maskloop.segment.catalog import Catalog
    from maskloop.segment.postprocess import clean
    from maskloop.segment.prompt import Box, Prompt
    from maskloop.settings import Settings

    settings = Settings()
    try:
        pixels = upright(image.read_bytes(), settings.max_image_megapixels * 1_000_000)
    except (ImageError, OSError) as error:
        raise typer.BadParameter(f"{image} is not an image that can be read: {error}", param_hint="image") from None
    prior = None if mask is None else _read_mask(mask, pixels.shape[:2])
    points = [_point("--point", text) for text in point] + [_point("--negative", text) for text in negative]
    prompt = Prompt(tuple(points), Box(*_numbers("--box", box, 4)) if box else None, (), prior)
    if prompt.empty:
        raise typer.BadParameter("say what is meant: --point X,Y, --box X0,Y0,X1,Y1 or --mask FILE")
    height, width = pixels.shape[:2]
    if prompt.box is not None and (prompt.box.x1 <= prompt.box.x0 or prompt.box.y1 <= prompt.box.y0):
        raise typer.BadParameter(f"{box} has no area: X0,Y0 is its left top corner, X1,Y1 its right bottom one")
    if prompt.box is None and prior is None and not point:
        raise typer.BadParameter("negative clicks alone mean no object: add --point, --box or --mask")
    if not all(0 <= p.x <= width and 0 <= p.y <= height for p in points):
        raise typer.BadParameter(f"a point is outside the image, which is {width} x {height}")
    try:
        segmenter = Catalog(settings.models_dir, settings.data_dir).load(
            model or settings.model, device=settings.device, threads=settings.inference_threads
        )
    except ModelError as error:
        raise typer.BadParameter(str(error)) from None
    prediction = segmenter.decode(segmenter.encode(pixels), prompt)
    answer = clean(prediction.mask, prompt)
    Pillow.fromarray(answer.astype(np.uint8) * 255).save(output)
    if overlay is not None:
        Pillow.fromarray(draw(pixels, answer, prompt)).save(overlay)
    typer.echo(f"{output}: {int(answer.sum())} of {answer.size} pixels, predicted IoU {prediction.score:.2f}")


def _point(option: str, text: str) -> Point:
    from maskloop.segment.prompt import Point

    x, y = _numbers(option, text, 2)
    return Point(x, y, positive=option == "--point")


def _numbers(option: str, text: str, count: int) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count:
        raise typer.BadParameter(f"{text!r} is not {count} numbers with commas between them", param_hint=option)
    return numbers


def _read_mask(path: Path, size: tuple[int, ...]) -> Mask:
    import numpy as np
    from PIL import Image as Pillow

    try:
        mask: Mask = np.asarray(Pillow.open(path).convert("L")) >= 128
    except OSError as error:
        raise typer.BadParameter(f"{path} is not an image that can be read: {error}", param_hint="--mask") from None
    if mask.shape != size:
        raise typer.BadParameter(f"{path} is {mask.shape[1]} x {mask.shape[0]}, the image {size[1]} x {size[0]}")
    return mask


def draw(image: Image, mask: Mask, prompt: Prompt) -> Image:
    """The image with the mask in red, its outline, and the prompt on top."""
    import cv2
    import numpy as np

    canvas = image.copy()
    canvas[mask] = (0.55 * canvas[mask] + 0.45 * np.array([255, 40, 60])).astype(np.uint8)
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    unit = max(1, round(max(image.shape[:2]) / 400))
    cv2.drawContours(canvas, contours, -1, (255, 255, 255), unit)
    if prompt.box is not None:
        corners = [(round(prompt.box.x0), round(prompt.box.y0)), (round(prompt.box.x1), round(prompt.box.y1))]
        cv2.rectangle(canvas, corners[0], corners[1], (255, 200, 0), unit)
    for p in prompt.points:
        centre = (round(p.x), round(p.y))
        cv2.circle(canvas, centre, 4 * unit, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(canvas, centre, 3 * unit, (30, 160, 60) if p.positive else (210, 30, 30), -1, cv2.LINE_AA)
    return canvas


def register(app: typer.Typer, bench: typer.Typer) -> None:
    app.command()(predict)
