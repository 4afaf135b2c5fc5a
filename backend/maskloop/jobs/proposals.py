"""What a version proposes for an image nobody has clicked on, and how certain it is of it."""

from __future__ import annotations

import json
import os
from collections import OrderedDict
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from maskloop.jobs.workbench import WARM_VERSIONS, Timings, Workbench
from maskloop.labelstudio.images import LoadedImage
from maskloop.learn import uncertainty
from maskloop.learn.uncertainty import Certainty
from maskloop.queue.pauses import let_clicks_pass
from maskloop.segment.card import ModelError
from maskloop.segment.familiarity import Familiarity, Signature, signature
from maskloop.segment.prompt import Point, Prompt
from maskloop.segment.segmenter import Embedding, Segmenter

if TYPE_CHECKING:  # they bring torch, which a server that has just started has not loaded yet
    from maskloop.learn.islands import Proposal
    from maskloop.learn.propose import Proposer

LOOKED_AT = 12
"""Proposals whose prompt is moved to see how firm they are."""

SIGNATURES = "signatures.json"


class Proposals:
    """The proposers of versions, loaded when first asked for; as many are kept as segmenters are."""

    def __init__(self, bench: Workbench) -> None:
        self._bench = bench
        self._loaded: OrderedDict[str, tuple[Proposer, list[Signature]]] = OrderedDict()

    def on_image(
        self, version: str, image: LoadedImage, labels: Collection[str] | None = None, project: int | None = None
    ) -> tuple[list[Proposal], Certainty]:
        """The masks of a version's live labels (of ``labels``, if given) on an image, and how well it knows the image.

        Raises ModelError when the version has live labels and nothing to propose them with.
        The base knows nothing; for a ``project`` of which it serves, it is the images of the newest candidate
        that are known.
        """
        version, segmenter = self._bench.segmenter(version)
        proposer, labelled = self._of(version)
        embedding = self._bench.embedding(image, segmenter, Timings())
        found = proposer.propose(image.pixels, embedding, segmenter, let_clicks_pass, labels)
        if not labelled and project is not None:
            labelled = self._newest(project)
        return found, known(image.content, found, embedding, segmenter, labelled)

    def _newest(self, project: int) -> list[Signature]:
        """What the labelled images of a project look like, as its newest version that says so has seen them."""
        found = (read_signatures(version.folder) for version in reversed(self._bench.versions.list(project)))
        return next((signatures for signatures in found if signatures), [])

    def _of(self, version: str) -> tuple[Proposer, list[Signature]]:
        if version not in self._loaded:
            from maskloop.learn import propose

            folder = self._bench.versions.folder(version)
            proposer = propose.load(folder)
            if proposer.head is None and self._bench.versions.live_labels(version):
                raise ModelError(
                    f"what version {version} proposes with ({folder}/{propose.FILE}) is missing or damaged: "
                    "restore the folder from a backup, or leave the version with `maskloop rollback`"
                )
            self._loaded[version] = (proposer, read_signatures(folder))
        self._loaded.move_to_end(version)
        while len(self._loaded) > WARM_VERSIONS:
            self._loaded.popitem(last=False)
        return self._loaded[version]


def known(
    content: str, found: list[Proposal], embedding: Embedding, segmenter: Segmenter, labelled: list[Signature]
) -> Certainty:
    """How well an image is known, by what is proposed on it and by the images that were labelled."""
    agreements = []
    for proposal in found[:LOOKED_AT]:
        rows, columns = np.nonzero(proposal.mask)
        middle = Prompt(
            points=(Point(float(np.median(columns)) + 0.5, float(np.median(rows)) + 0.5),), label=proposal.label
        )
        agreements.append(uncertainty.agreement(embedding, middle, proposal.mask, segmenter))
        let_clicks_pass()
    near = Familiarity(labelled).of(signature(embedding))
    return uncertainty.certainty(content, [p.score for p in found], agreements, near)


def write_signatures(folder: Path, signatures: list[Signature]) -> None:
    """Keep what the labelled images look like beside a version."""
    partial = folder / f".{SIGNATURES}"
    partial.write_text(json.dumps([[round(float(x), 5) for x in vector] for vector in signatures]))
    os.replace(partial, folder / SIGNATURES)


def read_signatures(folder: Path | None) -> list[Signature]:
    """What the labelled images of a version look like; nothing for the base."""
    try:
        found = json.loads(((folder or Path("/nonexistent")) / SIGNATURES).read_text())
    except (FileNotFoundError, ValueError):
        return []
    return [np.asarray(vector, np.float32) for vector in found]
