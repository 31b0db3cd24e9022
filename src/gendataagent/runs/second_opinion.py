"""A second opinion on feedback: by the baseline's classifier, trained without synthetic images.

The guide's own p(true class) falls by construction. A network that steered nothing tells whether
images became harder in a way that another network sees, and whether they still show their class.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gendataagent.agent.feedback.measuring import measure_hardness
from gendataagent.agent.feedback.opinion import Opinion, RoundOpinion, SecondOpinion
from gendataagent.agent.feedback.record import FeedbackRecord
from gendataagent.agent.pool import Pool
from gendataagent.agent.synthetic import read_png
from gendataagent.core.records import Candidate
from gendataagent.core.rows import read_record
from gendataagent.core.run_folder import RunFolder
from gendataagent.data import LabelledImages
from gendataagent.data.pixels import Pixels
from gendataagent.runs.reload import load_classifier
from gendataagent.training.classifier import Classifier


def write_second_opinion(
    folder: RunFolder,
    real: LabelledImages,
    *,
    rounds: Sequence[int],
    device: str = "auto",
    trust_remote_code: bool = False,
) -> SecondOpinion | None:
    """Write what the baseline's classifier says of the images of guided rounds, and return it.

    Args:
        real: the training images.
        rounds: the rounds that the run may have; unfinished ones are left out.
        trust_remote_code: as `reload.load_classifier`.

    Returns:
        None, and nothing is written, if there is no baseline or no guided round.

    Raises:
        RunFolderError: an image of a finished round, or the baseline's classifier, is damaged.
    """
    guided = list(_guided_rounds(folder, rounds))
    if not guided or not RunFolder(folder.baseline).classifier.is_dir():
        return None
    classifier = load_classifier(
        folder.baseline, device=device, trust_remote_code=trust_remote_code
    )
    pool = Pool(folder, classifier.class_names)
    found = [_of_round(folder, pool, number, ids, real, classifier) for number, ids in guided]
    opinion = SecondOpinion(rounds=tuple(one for one in found if one is not None))
    folder.write_json(folder.second_opinion_file, opinion.to_json())
    return opinion


def _guided_rounds(
    folder: RunFolder, rounds: Sequence[int]
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield number and probes of each finished round whose images were steered."""
    for number in rounds:
        path = folder.round(number) / "feedback.json"
        if folder.round_is_done(number) and path.is_file():
            record = read_record(FeedbackRecord, path)
            if record.scale:
                yield number, record.candidates


def _of_round(
    folder: RunFolder,
    pool: Pool,
    number: int,
    ids: Sequence[str],
    real: LabelledImages,
    classifier: Classifier,
) -> RoundOpinion | None:
    """Return the opinion on a round; None if no probe has both images."""
    of_id = {candidate.id: candidate for candidate in pool.candidates(number)}
    plain_file = {id_: folder.round(number) / "plain" / f"{id_}.png" for id_ in ids}
    probes = [
        of_id[id_]
        for id_ in ids
        if id_ in of_id and plain_file[id_].is_file() and pool.image_path(of_id[id_]).is_file()
    ]
    if not probes:
        return None

    size_px = classifier.resize_px
    labels = [candidate.label for candidate in probes]
    made = [
        Pixels.from_pil(images, labels, ids=[c.id for c in probes], size_px=size_px)
        for images in (
            [read_png(plain_file[candidate.id]) for candidate in probes],
            [pool.image(candidate) for candidate in probes],
        )
    ]
    sources, plain, guided = (
        Opinion.of(measure_hardness(classifier, pixels))
        for pixels in (_sources(probes, real, size_px), *made)
    )
    return RoundOpinion(
        round=number, images=len(probes), sources=sources, plain=plain, guided=guided
    )


def _sources(probes: Sequence[Candidate], real: LabelledImages, size_px: int) -> Pixels:
    """Return the source of each probe; one with several probes is decoded once."""
    unique = list(dict.fromkeys(candidate.source_id for candidate in probes))
    pixels = Pixels.from_images(real.subset([real.index_of(id_) for id_ in unique]), size_px)
    return pixels.subset([unique.index(candidate.source_id) for candidate in probes])
