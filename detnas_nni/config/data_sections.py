"""The config's section `data`: where images and annotations are, and how they are read."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    AfterValidator,
    Discriminator,
    Field,
    SerializerFunctionWrapHandler,
    Tag,
    model_serializer,
    model_validator,
)

from detnas_nni.config.section import ConfigPath, Fraction, Positive, Section


class _GrownSection(Section):
    """A section with keys that older configs lack: those at their default are not written out."""

    LATER: ClassVar[frozenset[str]]

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields, values = type(self).model_fields, handler(self)
        unset = {key for key in self.LATER if getattr(self, key) == fields[key].default}
        return {key: value for key, value in values.items() if key not in unset}


class ClassificationData(Section):
    """An ImageFolder: one folder of images per class."""

    train: ConfigPath = Field(description="the training part")
    test: ConfigPath | None = Field(None, description="the part for the final top-1, never seen in a search")
    holdout: Positive = Field(
        10_000, description="training images held out, by the seed, for a search's top-1 and never trained on"
    )
    image_size: Positive = Field(224, description="side of the square crop, in pixels [R]")


class CocoSplit(Section):
    """One split in COCO form."""

    images: ConfigPath = Field(description="the folder that file names in the annotations are relative to")
    annotations: ConfigPath = Field(description="the JSON file")


class VocSplit(_GrownSection):
    """One split in Pascal VOC form."""

    LATER = frozenset({"backgrounds"})

    root: ConfigPath = Field(
        description="the folder with Annotations, ImageSets and JPEGImages, with images and annotations, or "
        "with images and XML files side by side"
    )
    image_set: str | None = Field(
        None,
        description="a name in ImageSets/Main, such as trainval; by default all images with an XML file",
    )
    one_based: bool = Field(
        False, description="coordinates count pixels from 1, both ends included, as in the original VOC"
    )
    backgrounds: bool = Field(False, description="take images without an XML file as images without objects")


def _split_form(value: Any) -> str:
    return "voc" if isinstance(value, VocSplit) or (isinstance(value, dict) and "root" in value) else "coco"


SPLIT_FORMS = {"coco": CocoSplit, "voc": VocSplit}

# A discriminated union, so that an error names the keys of one form, not of both.
Split = Annotated[
    Annotated[CocoSplit, Tag("coco")] | Annotated[VocSplit, Tag("voc")], Discriminator(_split_form)
]


def _number_of_sources(value: Any) -> str:
    return "several" if isinstance(value, list | tuple) else "single"


def _as_tuple(value: Any) -> tuple[CocoSplit | VocSplit, ...]:
    sources = value if isinstance(value, tuple) else (value,)
    if not sources:
        raise ValueError("needs at least one source")
    return sources


# One source, or several that together are one split, such as VOC2007 and VOC2012.
Sources = Annotated[
    Annotated[Split, Tag("single")] | Annotated[tuple[Split, ...], Tag("several")],
    Discriminator(_number_of_sources),
    AfterValidator(_as_tuple),
]

TAGS = (*SPLIT_FORMS, "single", "several")
"""What pydantic adds to an error's location although no user wrote it."""


class DetectionData(_GrownSection):
    """Images with boxes. Without `search`, the search split is held out of `train`.

    A split is one source, or a list of sources. docs/data.md says how ambiguous annotations are read.
    """

    LATER = frozenset({"copies", "exif", "box_form", "box_units", "crowds", "test_holdout"})

    format: Literal["coco", "voc"] = Field("coco", description="the format of the annotations")
    train: Sources = Field(description="the training split")
    search: Sources | None = Field(None, description="the split whose AP guides the search")
    test: Sources | None = Field(None, description="the split for the reported AP, never seen in a search")
    holdout: Positive = Field(
        5_000, description="without `search`: images held out of `train`, by the seed [P: 5k of trainval35k]"
    )
    test_holdout: Positive | None = Field(
        None,
        description="without `test`: images held out of `train` for the reported AP, the same for every "
        "seed; nothing is trained on them",
    )
    copies: ConfigPath | None = Field(
        None,
        description="a JSON file of groups of image files that show the same picture (augmented copies, "
        "tiles, frames of a video), which hold-outs keep together; `detnas init` writes it",
    )
    classes: tuple[str, ...] | None = Field(None, description="class names; by default those of `train`")
    flip: Fraction = Field(0.5, description="chance of a horizontal flip in training [R]")
    train_difficult: bool = Field(
        False, description="train on objects that VOC marks as difficult [R's base, maskrcnn-benchmark: no]"
    )
    max_bad_annotations: int = Field(
        0, ge=0, description="entries with a mistake that a source may have; they are skipped and reported"
    )
    exif: Literal["auto", "shown", "stored"] = Field(
        "auto",
        description="which way up the boxes of photos with an EXIF orientation are: as displayed, as stored, "
        "or as boxes and sizes indicate (as displayed if neither does)",
    )
    box_form: Literal["auto", "xywh", "xyxy", "cxcywh"] = Field(
        "auto",
        description="what a box's four numbers are; by default as in the format's definition, unless only "
        "another form is possible",
    )
    box_units: Literal["auto", "pixels", "shares", "percent", "thousandths"] = Field(
        "auto",
        description="their unit; by default shares of the image if all in a file are within 0..1, percent or "
        "thousandths if pixels are not possible",
    )
    crowds: Literal["ignored", "objects"] = Field(
        "ignored",
        description="what COCO's iscrowd marks: regions of many objects, which are not trained on, or single "
        "objects, as in CVAT's export of masks",
    )

    @model_validator(mode="after")
    def _splits_have_the_format(self) -> DetectionData:
        expected = CocoSplit if self.format == "coco" else VocSplit
        keys = ", ".join(key for key, field in expected.model_fields.items() if field.is_required())
        for name in ("train", "search", "test"):
            if not all(isinstance(source, expected) for source in getattr(self, name) or ()):
                raise ValueError(f"format is {self.format}, so `{name}` needs the keys {keys}")
        return self

    @model_validator(mode="after")
    def _one_test_split(self) -> DetectionData:
        if self.test is not None and self.test_holdout is not None:
            raise ValueError("`test` names a split, so `test_holdout` has no meaning; leave one of them out")
        return self

    @property
    def has_test(self) -> bool:
        """Whether there are images for the reported AP."""
        return self.test is not None or self.test_holdout is not None


class Data(_GrownSection):
    """Where the images are."""

    LATER = frozenset({"strict"})

    classification: ClassificationData | None = Field(None, description="for pre-training and ClsNAS")
    detection: DetectionData | None = Field(None, description="for fine-tuning and the search")
    max_bad_images: int = Field(
        100, ge=0, description="a step skips up to this many unreadable images, and gives up at one more"
    )
    max_images: Positive | None = Field(
        None, description="use only this many images of each split; `--fast-dev-run` sets it"
    )
    strict: bool = Field(
        False,
        description="make every correction of annotations an error instead of a line in the log",
    )
