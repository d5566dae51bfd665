"""Images as torch data sets: seeded augmentation, and bad images that do not end a training."""

import logging
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import Dataset
from torchvision import tv_tensors

from detnas_nni.data.decoded import DecodedImages
from detnas_nni.data.imagenet import ClassificationSet
from detnas_nni.data.images import BadImageError, read_image
from detnas_nni.data.records import DetectionSet
from detnas_nni.errors import DataError
from detnas_nni.util.seeding import derive_seed

logger = logging.getLogger(__name__)

Sample = tuple[torch.Tensor, Any]


class ImageDataset(Dataset):
    """What the data sets have in common.

    An item is requested by `(index, position)`, as from `TrainBatches`, or only by its index, which then is
    the position, too. Augmentation draws from a stream seeded by (seed, position), so it does not
    depend on the number of workers or on where a training was resumed.

    A bad image (missing, truncated, not an image, of absurd size, not of the annotated size) is logged and
    counted once, in memory that the loader's workers share. In a training the next good image stands in for
    it; in an evaluation (`replace_bad=False`) the item is None, so that the image can be left out together
    with its ground truth.

    Attributes:
        kept: images that were decoded before (`cache.keep_decoded`): they come as uint8, the same values.

    Args:
        name: the set's name in messages.
        files: N image files.
        transform: called as transform(image, target) inside the seeded stream.
        seed: the config's seed.
        max_bad_images: how many distinct bad images are tolerated, in this process and its workers.
        replace_bad: whether another image stands in for a bad one.

    Raises:
        DataError: the set is empty.
    """

    def __init__(
        self,
        name: str,
        files: Sequence[Path],
        *,
        transform: Callable,
        seed: int,
        max_bad_images: int,
        replace_bad: bool,
    ) -> None:
        if not files:
            raise DataError(f"{name}: is empty; expected at least one image.")
        self.name = name
        self.files = files
        self.seed = seed
        self.max_bad_images = max_bad_images
        self.replace_bad = replace_bad
        self.transform = transform
        self.kept: DecodedImages | None = None
        # Workers are other processes: in a plain tensor each would count on its own.
        self._bad = torch.zeros(len(files), dtype=torch.uint8).share_memory_()

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, item: int | tuple[int, int]) -> Sample | None:
        """The image (3, H, W) float32 and its target; None for a bad image unless another replaces it.

        Raises:
            DataError: more than `max_bad_images` images are bad, or all of them are.
        """
        index, position = item if isinstance(item, tuple) else (item, item)
        if not 0 <= index < len(self):
            raise IndexError(f"{index} is not in 0..{len(self) - 1}")
        # The neighbours are tried in order, so that the stand-in depends only on the files.
        for offset in range(len(self) if self.replace_bad else 1):
            sample = self._sample((index + offset) % len(self), position)
            if sample is not None:
                return sample
        if self.replace_bad:
            raise DataError(f"{self.name}: all of its {len(self)} images are bad; the log names the reasons.")
        return None

    def __getitems__(self, items: Sequence[int | tuple[int, int]]) -> list[Sample | DataError | None]:
        """A batch's items, for the loader.

        An error that ends the training is returned as an item: raised in a worker it would reach the user as
        torch's report of the worker's traceback. `ImageLoader` raises it in the main process.
        """
        try:
            return [self[item] for item in items]
        except DataError as error:
            return [error]

    def image(self, index: int) -> torch.Tensor | None:
        """An item's image, for a transform without randomness; None if it is bad (not counted here)."""
        try:
            decoded = self._decode(index)
        except BadImageError:
            return None
        return self._finish(self.transform(decoded, self._target(index)))[0]

    @abstractmethod
    def _decode(self, index: int) -> tv_tensors.Image:
        """The decoded image, before the transform.

        Raises:
            BadImageError: the image cannot be used.
        """

    def way_up(self, index: int) -> str:
        """What determines, apart from the file, how it is decoded."""
        return ""

    @abstractmethod
    def _target(self, index: int) -> Any:
        """The image's target, before the transform."""

    def _finish(self, sample: Sample) -> Sample:
        """Convert the transform's result to the item's form."""
        return sample

    def _sample(self, index: int, position: int) -> Sample | None:
        if self._bad[index]:
            self._check_limit(index, "is bad")
            return None
        kept = None if self.kept is None else self.kept.get(index)
        if kept is not None:
            return self._finish((kept, self._target(index)))
        try:
            image = self._decode(index)
        except BadImageError as error:
            self._bad[index] = 1
            logger.warning("%s: the image %s; it is left out", self.files[index], error)
            self._check_limit(index, f"the image {error}")
            return None
        with _seeded(derive_seed(self.seed, "augmentation", position)):
            return self._finish(self.transform(image, self._target(index)))

    def _check_limit(self, index: int, reason: str) -> None:
        count = int(self._bad.sum())
        if count > self.max_bad_images:
            raise DataError(
                f"{self.files[index]}: {reason}. {count} bad image(s) in {self.name}, {self.max_bad_images} "
                "allowed: repair or remove them, or raise max_bad_images in the config."
            )


class DetectionDataset(ImageDataset):
    """Items are (image (3, H, W) float32, target), for torchvision's detectors.

    The target's tensors are boxes (N, 4) float32 x1, y1, x2, y2, labels (N,) int64 in 1..K and image_id ()
    int64. The boxes include no crowds, and difficult objects only with `train_difficult`.

    Args:
        images: the set.
        transform: `detection_train()` or `detection_eval()`.
        seed, max_bad_images, replace_bad: as in `ImageDataset`.
        drop_empty: leave out images without such a box, as in training.
        train_difficult: whether to include objects that VOC marks as difficult.

    Raises:
        DataError: no image is left.
    """

    def __init__(
        self,
        images: DetectionSet,
        transform: Callable,
        *,
        seed: int = 0,
        max_bad_images: int = 0,
        drop_empty: bool = False,
        train_difficult: bool = False,
        replace_bad: bool = True,
    ) -> None:
        self._train_difficult = train_difficult
        self.records = tuple(
            record for record in images.records if not drop_empty or record.trainable(train_difficult).any()
        )
        if images.records and not self.records:
            raise DataError(f"{images.name}: none of its {len(images)} images has a box to train on.")
        super().__init__(
            images.name,
            [record.file for record in self.records],
            transform=transform,
            seed=seed,
            max_bad_images=max_bad_images,
            replace_bad=replace_bad,
        )

    def _decode(self, index: int) -> tv_tensors.Image:
        record = self.records[index]
        return tv_tensors.Image(read_image(record.file, record.size, upright=record.upright))

    def way_up(self, index: int) -> str:
        record = self.records[index]
        return f"{record.width}x{record.height}{'' if record.upright else ' as stored'}"

    def _target(self, index: int) -> dict[str, torch.Tensor]:
        record = self.records[index]
        objects = record.trainable(self._train_difficult)
        return {
            "boxes": tv_tensors.BoundingBoxes(
                torch.from_numpy(record.boxes[objects]),
                format="XYXY",
                canvas_size=(record.height, record.width),
            ),
            "labels": torch.from_numpy(record.labels[objects]),
            "image_id": torch.tensor(record.image_id),
        }

    def _finish(self, sample: Sample) -> Sample:
        image, target = sample
        # A plain tensor: the detectors would carry the subclass through every operation.
        return image, {**target, "boxes": target["boxes"].as_subclass(torch.Tensor)}


class EvaluationDataset(DetectionDataset):
    """A detection set to measure AP on: every image once, in order; None instead of a bad one."""

    def __init__(self, images: DetectionSet, transform: Callable, *, max_bad_images: int = 0) -> None:
        super().__init__(images, transform, max_bad_images=max_bad_images, replace_bad=False)


class ClassificationDataset(ImageDataset):
    """Items are (image (3, S, S) float32, label in 0..K-1).

    Args:
        images: the set.
        transform: `classification_train(S)` or `classification_eval(S)`.
        seed, max_bad_images, replace_bad: as in `ImageDataset`.
    """

    def __init__(
        self,
        images: ClassificationSet,
        transform: Callable,
        *,
        seed: int = 0,
        max_bad_images: int = 0,
        replace_bad: bool = True,
    ) -> None:
        self.labels = images.labels
        super().__init__(
            images.name,
            images.files,
            transform=transform,
            seed=seed,
            max_bad_images=max_bad_images,
            replace_bad=replace_bad,
        )

    def _decode(self, index: int) -> tv_tensors.Image:
        return tv_tensors.Image(read_image(self.files[index]))

    def _target(self, index: int) -> int:
        return int(self.labels[index])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw from a stream of `seed`, and leave the process's own stream as it was.

    Only the CPU generator: `torch.manual_seed` would reset the GPUs' generators, which the training uses.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
